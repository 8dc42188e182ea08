"""The methods, each an anomalib model."""

from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.af_clip import AFClip
from anomalib_zsad.models.kano_clip import KAnoClip

__all__ = ["ACDClip", "AFClip", "KAnoClip"]
