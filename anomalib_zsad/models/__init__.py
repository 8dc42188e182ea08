"""The methods, each an anomalib model."""

from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.af_clip import AFClip
from anomalib_zsad.models.ensemble import Ensemble
from anomalib_zsad.models.kano_clip import KAnoClip
from anomalib_zsad.models.wmoe_clip import WMoEClip
from anomalib_zsad.seam.command_line import bring_settings_of_checkpoint
from anomalib_zsad.seam.export import export_the_given_model

__all__ = ["ACDClip", "AFClip", "Ensemble", "KAnoClip", "WMoEClip"]

bring_settings_of_checkpoint()
export_the_given_model()
