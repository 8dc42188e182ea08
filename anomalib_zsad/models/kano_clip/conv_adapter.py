"""The Conv-Adapter, which aligns the global feature with text (section 2.4 of the paper, eq. 11)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.models.kano_clip.choices import KAnoChoices


class ConvAdapter(nn.Module):
    """A bottleneck for the global feature, with the map of patches as context, eq. 11.

    The global feature is a map of one patch, to which only the centre of the spatial kernel applies: without context
    the kernel is one factor for each channel. With context the same operator is applied to the patches, and their mean
    is added. With an identity kernel and without context this is exactly eq. 11.

    Args:
        width: D, width of the joint space.
        choices: Kind and sizes of the adapter.

    Raises:
        ValueError: If the bottleneck of a grouped convolution does not divide the width.
    """

    def __init__(self, width: int, choices: KAnoChoices = KAnoChoices()) -> None:
        super().__init__()
        kind, bottleneck, kernel = choices.conv_adapter, choices.bottleneck, choices.conv_kernel
        grouped = kind == "conv_adapter"
        if grouped and (width % bottleneck):
            msg = (
                f'choices.conv_adapter="conv_adapter" needs a choices.bottleneck that divides the joint width {width}, '
                f"got {bottleneck}"
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
            # The mean before the linear projection up equals the mean after it.
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
