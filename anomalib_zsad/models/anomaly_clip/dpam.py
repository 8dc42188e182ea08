"""What AnomalyCLIP reads of CLIP: patches that attend by their values (DPAM), and the class token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from anomalib_zsad.clip.attention import value_attention
from anomalib_zsad.clip.backbone import FrozenClip

Variant = Literal["released", "paper"]


@dataclass(frozen=True)
class JointTokens:
    """Reads the patches of each layer in the joint space, each set behind the class token of the last block.

    Over a tower of timm the feature that the tower has of the image stands in place of the class token.

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
            token = self._token(clip, last.float())
            return [torch.cat([token, clip.project_patches(tap.float())], dim=1) for tap in taps]

    def _token(
        self,
        clip: FrozenClip,
        last: Tensor,  # (B, 1 + N, C)
    ) -> Tensor:  # (B, 1, D)
        # That the released code leaves out the layer norm is how it reads OpenAI's tower; no other one is read like it.
        if self.variant == "released" and not clip.is_timm:
            return last[:, :1] @ clip.projection
        return clip.pool(last)[:, None]

    def _attend(self, block: int, attention: Any) -> Any:
        return attention if block < self.vv_start else value_attention(attention)
