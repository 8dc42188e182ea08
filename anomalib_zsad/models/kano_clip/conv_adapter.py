"""The Conv-Adapter, which aligns the global feature with text (section 2.4 of the paper, eq. 11)."""

from torch import Tensor, nn
from torch.nn import functional as F


class ConvAdapter(nn.Module):
    """A depthwise separable bottleneck of the global feature and of the map of patches around it, eq. 11.

    The global feature counts as a map of one patch, of which only the centre of the depthwise kernel is seen. On it
    alone the kernel would be a scale a channel; with `context` the same operator sees the patches, and their mean is
    added. With a kernel that passes its centre on and without context this is eq. 11 to the letter.

    Args:
        width: D, width of the joint space.
        bottleneck: Width between the pointwise convolutions.
        kernel: Side of the depthwise convolution in patches, odd.
        context: Add what the operator makes of the patches.
        residual: Weight of the untouched global feature in the result.

    Raises:
        ValueError: If the kernel is even.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int = 192,
        kernel: int = 3,
        context: bool = True,
        residual: float = 0.0,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            msg = f"conv_kernel must be odd and positive, got {kernel}"
            raise ValueError(msg)
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.down = nn.Linear(width, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, width, bias=False)
        self.context = context
        self.residual = residual

    def forward(
        self,
        feature: Tensor,  # (B, D)
        patches: Tensor,  # (B, N, D)
        grid: tuple[int, int],
    ) -> Tensor:  # (B, D)
        """Adapt the global feature."""
        half = self.depthwise.kernel_size[0] // 2
        centre = self.depthwise.weight[:, 0, half, half]
        inner = F.relu(self.down(self.norm(feature) * centre))
        if self.context:
            # The mean is taken before the linear projection up, which it passes through.
            plane = self.depthwise(self.norm(patches).transpose(1, 2).unflatten(2, grid))
            inner = inner + F.relu(self.down(plane.flatten(2).transpose(1, 2))).mean(1)
        return self.up(inner) + self.residual * feature
