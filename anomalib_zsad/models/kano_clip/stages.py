"""The tokens of CLIP that KAnoCLIP uses: those of every stage, and the global feature (eq. 8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.parts.encoder import vv_start


@dataclass(frozen=True)
class StageTokens:
    """Reads the tokens of every stage, and the last ones of CLIP's own stream, whose first is the global feature.

    Args:
        vv_start: The first block with V-V attention. None: the stages are those of CLIP's own stream.
        vv_ffn: Whether the V-V stream passes the feed-forward part of the blocks.
        cls_source: The stream of the class token that is the global feature: "original" or "vv".
        cls_ln_post: Whether CLIP's last layer norm precedes its projection.
        projects: Whether the tokens of the stages are projected to the joint space; False for a learnt projection.
    """

    vv_start: int | None
    vv_ffn: bool = False
    cls_source: Literal["original", "vv"] = "original"
    cls_ln_post: bool = True
    projects: bool = True

    @classmethod
    def of(cls, choices: KAnoChoices, clip: FrozenClip, use_vv: bool) -> "StageTokens":
        """Make it from the choices.

        Raises:
            ValueError: If the backbone does not have the first block of V-V attention.
        """
        start = vv_start(choices.vv_start_layer, clip) if use_vv else None
        projects = choices.patch_projection == "clip"
        return cls(start, choices.vv_ffn, choices.cls_source, choices.cls_ln_post, projects)

    def __call__(
        self,
        clip: FrozenClip,
        images: Tensor,  # (B, 3, H, W), normalised
        layers: Sequence[int],
    ) -> list[Tensor]:  # (L + 1) x (B, 1 + N, D); of width C where a learnt projection follows
        """Read the tokens."""
        if self.vv_start is None:
            *stages, last = clip.encode_patches(images, [*layers, clip.n_blocks])
        else:
            stages, last = clip.encode_patches_vv(images, layers, self.vv_start, self.vv_ffn)
        with torch.autocast(images.device.type, enabled=False):
            project = clip.project if self.projects else nn.Identity()
            own = clip.project(last.float())
            if self.cls_source == "vv" or not self.cls_ln_post:
                token = (stages[-1] if self.cls_source == "vv" else last)[:, :1].float()
                token = clip.project(token) if self.cls_ln_post else token @ clip.projection
                own = torch.cat([token, own[:, 1:]], dim=1)
            return [*(project(tokens.float()) for tokens in stages), own]
