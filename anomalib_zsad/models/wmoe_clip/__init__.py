"""WMoE-CLIP (arXiv 2603.06313)."""

from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.lightning_model import WMoEClip

__all__ = ["WMoEChoices", "WMoEClip"]
