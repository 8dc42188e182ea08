"""The Conv-Adapter, which aligns the global feature with text (section 2.4 of the paper, eq. 11)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.models.kano_clip.choices import KAnoChoices


class ConvAdapter(nn.Module):
    """A bottleneck of the global feature and of the map of patches around it, eq. 11.

    The global feature counts as a map of one patch, of which only the centre of the spatial kernel is seen. On it
    alone the kernel would be a scale a channel; with `context` the same operator sees the patches, and their mean is
    added. With a kernel that passes its centre on and without context this is eq. 11 to the letter.

    Args:
        width: D, width of the joint space.
        choices: Its kind and sizes.

    Raises:
        ValueError: If the bottleneck of a grouped convolution does not divide the width.
    """

    def __init__(self, width: int, choices: KAnoChoices = KAnoChoices()) -> None:
        super().__init__()
        kind, bottleneck, kernel = choices.conv_adapter, choices.bottleneck, choices.conv_kernel
        grouped = kind == "conv_adapter"
        if grouped and (width % bottleneck):
            msg = (
                f'conv_adapter="conv_adapter" needs a bottleneck that divides the joint width {width}, got {bottleneck}'
            )
            raise ValueError(msg)
        channels = bottleneck if grouped else width
        self.norm = nn.LayerNorm(width)
        self.depthwise: nn.Conv2d | None = None
        if kind != "linear":
            self.depthwise = nn.Conv2d(width, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.down = nn.Identity() if grouped else nn.Linear(width, bottleneck, bias=False)
        self.up = nn.Linear(bottleneck, width, bias=False)
        self.scale = nn.Parameter(torch.ones(width)) if grouped else None
        self.context = choices.conv_adapter_context
        self.residual = choices.conv_adapter_residual
        if self.residual:
            nn.init.zeros_(self.up.weight)

    def forward(
        self,
        feature: Tensor,  # (B, D)
        patches: Tensor,  # (B, N, D)
        grid: tuple[int, int],
    ) -> Tensor:  # (B, D)
        """Adapt the global feature."""
        inner = F.relu(self.down(self._at_centre(self.norm(feature))))
        if self.context:
            # The mean is taken before the linear projection up, which it passes through.
            inner = inner + F.relu(self.down(self._around(self.norm(patches), grid))).mean(1)
        adapted = self.up(inner) if self.scale is None else self.up(inner) * self.scale
        return adapted + self.residual * feature

    def _at_centre(
        self,
        feature: Tensor,  # (B, D)
    ) -> Tensor:  # (B, channels)
        if self.depthwise is None:
            return feature
        half = self.depthwise.kernel_size[0] // 2
        centre = self.depthwise.weight[:, :, half, half]  # (channels, D / channels)
        return (feature.unflatten(-1, centre.shape) * centre).sum(-1)

    def _around(
        self,
        patches: Tensor,  # (B, N, D)
        grid: tuple[int, int],
    ) -> Tensor:  # (B, N, channels)
        if self.depthwise is None:
            return patches
        return self.depthwise(patches.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
