"""Bi-CMCI: patches and text refine each other at every stage of the vision tower (section 2.4 of the paper)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anomalib_zsad.functional.scoring import cosines, entropy
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.kano_clip.deformable import DeformableAttention, Grid
from anomalib_zsad.models.kano_clip.text_attention import TextAttention


class Comparison(NamedTuple):
    """Cosines of patches with both states, and diagnostics of the attention."""

    cosines: Tensor  # (B, N, S)
    offset: Tensor  # () mean distance of sampling points from their centres, in halves of the map's sides
    entropy: Tensor  # () of the attention from text to patches


class BiCA(nn.Module):
    """Bi-directional cross-attention at one stage: each modality attends to itself and to the other.

    Args:
        width: D, width of the joint space.
        choices: Sizes and order of the attentions.

    Raises:
        ValueError: If heads or groups do not divide the width of the attentions.
    """

    def __init__(self, width: int, choices: KAnoChoices = KAnoChoices()) -> None:
        super().__init__()
        inner, heads, residual = choices.bica_dim, choices.bica_heads, choices.bica_residual_init
        deformable = DeformableAttention(width, choices) if choices.deform_attention == "dat" else None
        if inner % heads:
            msg = f"choices.bica_heads must divide choices.bica_dim={inner}, got {heads}"
            raise ValueError(msg)
        self.text_norm = nn.LayerNorm(width)
        self.text_self = TextAttention(width, inner, heads)
        self.text_scale = _scale(width, residual)
        self.choices = choices
        self.deformable = deformable
        if deformable is not None:
            self.patch_norm = nn.LayerNorm(width)
            self.patch_scale = _scale(width, residual)
        self.cross_text_norm = nn.LayerNorm(width)
        self.cross_patch_norm = nn.LayerNorm(width)
        self.patch_to_text = TextAttention(width, inner, heads)
        self.patch_to_text_scale = _scale(width, residual)
        self.text_to_patch = TextAttention(width, inner, heads)
        self.text_to_patch_scale = _scale(width, residual)
        if choices.bica_ffn:
            self.text_ffn = _feed_forward(width, 4 * inner)
            self.text_ffn_scale = _scale(width, residual)
            self.patch_ffn = _feed_forward(width, 4 * inner)
            self.patch_ffn_scale = _scale(width, residual)

    def forward(
        self,
        patches: Tensor,  # (B, N, D)
        text: Tensor,  # (B or 1, S, D)
        grid: Grid,
    ) -> Comparison:
        """Refine patches and text, and compute their cosines."""
        if self.choices.bica_order == "self_first":
            patches, text, offsets = self._look_within(patches, text, grid)
            patches, text, weights = self._look_across(patches, text)
        else:
            patches, text, weights = self._look_across(patches, text)
            patches, text, offsets = self._look_within(patches, text, grid)
        if self.choices.bica_ffn:
            text = text + self.text_ffn_scale * self.text_ffn(text)
            patches = patches + self.patch_ffn_scale * self.patch_ffn(patches)
        return Comparison(cosines(patches, text), offsets.detach().abs().mean(), entropy(weights.detach()).mean())

    def _look_within(
        self,
        patches: Tensor,  # (B, N, D)
        text: Tensor,  # (B or 1, S, D)
        grid: Grid,
    ) -> tuple[Tensor, Tensor, Tensor]:  # both, and the offsets
        normed = self.text_norm(text)
        text = text + self.text_scale * self.text_self.from_few(normed, normed)[0]
        if self.deformable is None:
            return patches, text, patches.new_zeros(1)
        attended, offsets = self.deformable(self.patch_norm(patches), grid)
        return patches + self.patch_scale * attended, text, offsets

    def _look_across(
        self,
        patches: Tensor,  # (B, N, D)
        text: Tensor,  # (B or 1, S, D)
    ) -> tuple[Tensor, Tensor, Tensor]:  # both, and the weights from text to patches
        normed_text, normed_patches = self.cross_text_norm(text), self.cross_patch_norm(patches)
        read, weights = self.patch_to_text.from_few(normed_text, normed_patches)
        text = text + self.patch_to_text_scale * read
        normed_text = self.cross_text_norm(text) if self.choices.bica_cross == "sequential" else normed_text
        patches = patches + self.text_to_patch_scale * self.text_to_patch.from_many(normed_patches, normed_text)
        return patches, text, weights


class BiCMCI(nn.Module):
    """Bi-CMCI: a BiCA for every stage, each on the same text, eq. 9.

    Args:
        stages: The `BiCA` of each stage, L of them.
    """

    def __init__(self, stages: list[BiCA]) -> None:
        super().__init__()
        self.stages: Any = nn.ModuleList(stages)

    def forward(
        self,
        patches: list[Tensor],  # L x (B, N, D)
        text: Tensor,  # (B or 1, S, D)
        grid: Grid,
    ) -> list[Comparison]:
        """Compute the cosines of the patches of every stage with the text."""
        return [stage(each, text, grid) for stage, each in zip(self.stages, patches, strict=True)]

    def scale_norms(self) -> dict[str, Tensor]:
        """Return the norms of the residual scales of every stage, the weight of each of its attentions."""
        attentions = ("text_scale", "patch_scale", "patch_to_text_scale", "text_to_patch_scale")
        names = (*attentions, "text_ffn_scale", "patch_ffn_scale")
        found = ((i, name, getattr(stage, name, None)) for i, stage in enumerate(self.stages, 1) for name in names)
        return {f"stage{i}_{name}": scale.detach().norm() for i, name, scale in found if scale is not None}


def _scale(width: int, value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((width,), value))


def _feed_forward(width: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
