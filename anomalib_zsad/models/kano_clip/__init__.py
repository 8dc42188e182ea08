"""KAnoCLIP (arXiv 2501.03786)."""

from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.kano_clip.lightning_model import KAnoClip

__all__ = ["KAnoChoices", "KAnoClip"]
