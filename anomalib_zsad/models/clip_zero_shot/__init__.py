"""CLIP itself (arXiv 2103.00020), as the baseline of the papers."""

from anomalib_zsad.models.clip_zero_shot.lightning_model import ClipZeroShot

__all__ = ["ClipZeroShot"]
