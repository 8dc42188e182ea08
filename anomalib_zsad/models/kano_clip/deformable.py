"""Deformable self-attention over the grid of patches (section 2.4 of the paper, after arXiv 2201.00520)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.models.kano_clip.choices import KAnoChoices

Grid = tuple[int, int]

OFFSET_RANGE = 2.0
"""The largest offset of a sampling point, in halves of the distance to the next one."""


class DeformableAttention(nn.Module):
    """Attention of all patches to a few sampling points of the image with predicted offsets.

    Args:
        width: D, width of the patch tokens.
        choices: Sizes of the attention.

    Raises:
        ValueError: If heads or groups do not divide the inner width.
    """

    def __init__(self, width: int, choices: KAnoChoices = KAnoChoices()) -> None:
        super().__init__()
        inner, heads, groups = choices.bica_dim, choices.bica_heads, choices.deform_groups
        kernel, stride = choices.deform_kernel, choices.deform_stride
        if inner % groups or inner % heads:
            msg = (
                f"choices.bica_heads and choices.deform_groups must divide choices.bica_dim={inner}, got {heads} and "
                f"{groups}"
            )
            raise ValueError(msg)
        self.heads = heads
        self.groups = groups
        self.down = nn.Linear(width, inner)
        self.to_q = nn.Conv2d(inner, inner, 1)
        self.to_k = nn.Conv2d(inner, inner, 1)
        self.to_v = nn.Conv2d(inner, inner, 1)
        each = inner // groups
        self.offset_conv = nn.Conv2d(each, each, kernel, stride, kernel // 2, groups=each)
        self.offset_norm = nn.LayerNorm(each)
        self.offset_out = nn.Conv2d(each, 2, 1, bias=False)
        nn.init.zeros_(self.offset_out.weight)
        self.up = nn.Linear(inner, width)

    def forward(
        self,
        tokens: Tensor,  # (B, N, D)
        grid: Grid,
    ) -> tuple[Tensor, Tensor]:  # (B, N, D), and offsets (B * groups, 2, nh, nw) in halves of the map's sides
        """Attend from every patch to the sampled points."""
        plane = self.down(tokens).transpose(1, 2).unflatten(2, grid)
        q = self.to_q(plane)
        offsets = self.offsets(q)
        keys = self.sample(plane, offsets)
        k, v = (self._split(conv(keys)) for conv in (self.to_k, self.to_v))
        attended = F.scaled_dot_product_attention(self._split(q), k, v)
        return self.up(attended.transpose(1, 2).flatten(2)), offsets

    def offsets(
        self,
        q: Tensor,  # (B, inner, gh, gw)
    ) -> Tensor:  # (B * groups, 2, nh, nw), x before y
        """Predict offsets from the queries, bounded by a tanh: a clamp would stop gradients."""
        found = self.offset_conv(self._grouped(q))
        found = F.gelu(self.offset_norm(found.movedim(1, -1))).movedim(-1, 1)
        x, y = self.offset_out(found).tanh().split(1, dim=1)
        return torch.cat([x / found.shape[-1], y / found.shape[-2]], dim=1) * OFFSET_RANGE

    def sample(
        self,
        plane: Tensor,  # (B, inner, gh, gw)
        offsets: Tensor,  # (B * groups, 2, nh, nw)
    ) -> Tensor:  # (B, inner, nh, nw)
        """Sample a plane at the centres of a coarser grid plus the offsets."""
        height, width = offsets.shape[-2:]
        y, x = ((torch.arange(n, device=offsets.device) + 0.5) / n * 2 - 1 for n in (height, width))
        centres = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)])
        where = (centres + offsets).movedim(1, -1)
        read = F.grid_sample(self._grouped(plane), where, padding_mode="border", align_corners=False)
        return read.unflatten(0, (-1, self.groups)).flatten(1, 2)

    def _grouped(
        self,
        plane: Tensor,  # (B, inner, h, w)
    ) -> Tensor:  # (B * groups, inner / groups, h, w)
        return plane.unflatten(1, (self.groups, -1)).flatten(0, 1)

    def _split(
        self,
        plane: Tensor,  # (B, inner, h, w)
    ) -> Tensor:  # (B, heads, h * w, inner / heads)
        return plane.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
