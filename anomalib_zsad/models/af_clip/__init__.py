"""AF-CLIP (arXiv 2507.19949)."""

from anomalib_zsad.models.af_clip.lightning_model import AFClip

__all__ = ["AFClip"]
