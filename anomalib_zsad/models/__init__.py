"""The methods, each an anomalib model."""

from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.af_clip import AFClip
from anomalib_zsad.models.ensemble import Ensemble
from anomalib_zsad.models.kano_clip import KAnoClip
from anomalib_zsad.models.wmoe_clip import WMoEClip

__all__ = ["ACDClip", "AFClip", "Ensemble", "KAnoClip", "WMoEClip"]
