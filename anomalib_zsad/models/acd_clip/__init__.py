"""ACD-CLIP."""

from anomalib_zsad.models.acd_clip.lightning_model import ACDClip

__all__ = ["ACDClip"]
