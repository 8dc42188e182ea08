"""Maps of both states from the logits of patches (eq. 9 of the paper)."""

from typing import NamedTuple

import torch
from torch import Tensor

from anomalib_zsad.functional.scoring import smooth_upsample
from anomalib_zsad.models.kano_clip.choices import KAnoChoices

MARGIN = 1e-5
"""The least distance of min-max normalised maps from 0 and 1, where log-odds are infinite."""
FLAT = 1e-4
"""The least range of logits that min-max normalisation stretches to [0, 1]; less may be rounding."""


class StateMaps(NamedTuple):
    """The maps of both states as log-odds."""

    abnormal: Tensor  # (B, H, W) of M^a
    normal: Tensor | None  # (B, H, W) of M^n; None where it is the rest, 1 - M^a


def state_maps(
    logits: Tensor,  # (B, gh, gw, S)
    size: tuple[int, int],
    choices: KAnoChoices,
) -> StateMaps:
    """Upsample logits and normalise them for every pixel.

    Args:
        logits: Logits of the joined stages, or of one.
        size: Height and width of the maps in pixels.
        choices: Upsampling and normalisation. With a softmax over both states a map is the sigmoid of their
            difference, and upsampling is linear.
    """
    align_corners = choices.upsample_align_corners
    with torch.autocast(logits.device.type, enabled=False):
        if choices.map_norm == "softmax":
            difference = logits[..., 1] - logits[..., 0]
            return StateMaps(smooth_upsample(difference, size, sigma=0.0, align_corners=align_corners), None)
        each = (smooth_upsample(state, size, sigma=0.0, align_corners=align_corners) for state in logits.unbind(-1))
        normal, abnormal = (_min_max(state).logit(MARGIN) for state in each)
        return StateMaps(abnormal, normal)


def _min_max(
    maps: Tensor,  # (B, H, W)
) -> Tensor:  # (B, H, W) in [0, 1]
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=FLAT)
