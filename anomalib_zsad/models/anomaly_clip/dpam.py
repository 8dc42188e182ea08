"""What AnomalyCLIP reads of CLIP: patches that attend by their values (DPAM), and the class token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.attention import Attention
from anomalib_zsad.clip.backbone import FrozenClip

Variant = Literal["released", "paper"]


@dataclass(frozen=True)
class JointTokens:
    """Reads the patches of each layer in the joint space, each set behind the class token of the last block.

    Args:
        vv_start: The first block with V-V attention.
        variant: "released": V-V attention gathers a stream of its own, without feed-forward, beside that of CLIP, whose
            class token is projected without the last layer norm. "paper": V-V attention replaces that of CLIP.
    """

    vv_start: int
    variant: Variant = "released"

    def __call__(
        self,
        clip: FrozenClip,
        images: Tensor,  # (B, 3, H, W), normalised
        layers: Sequence[int],
    ) -> list[Tensor]:  # L x (B, 1 + N, D)
        """Read the tokens."""
        if self.variant == "released":
            taps, last = clip.encode_patches_vv(images, layers, self.vv_start)
        else:
            *taps, last = clip.encode_patches(images, [*layers, clip.n_blocks], attend=self._attend)
        with torch.autocast(images.device.type, enabled=False):
            token = last[:, :1].float()
            token = token @ clip.projection if self.variant == "released" else clip.project(token)
            return [torch.cat([token, clip.project(tap[:, 1:].float())], dim=1) for tap in taps]

    def _attend(self, block: int, attention: nn.MultiheadAttention) -> nn.MultiheadAttention | Attention:
        return attention if block < self.vv_start else Attention.of_values(attention)
