"""The methods, each an anomalib model."""

from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.af_clip import AFClip
from anomalib_zsad.models.clip_zero_shot import ClipZeroShot
from anomalib_zsad.models.ensemble import Ensemble
from anomalib_zsad.models.kano_clip import KAnoClip
from anomalib_zsad.models.wmoe_clip import WMoEClip
from anomalib_zsad.seam.command_line import bring_settings_of_checkpoint, name_new_places
from anomalib_zsad.seam.errors import tell_errors_in_one_message
from anomalib_zsad.seam.export import export_the_given_model
from anomalib_zsad.seam.results import version_first_tests

__all__ = ["ACDClip", "AFClip", "ClipZeroShot", "Ensemble", "KAnoClip", "WMoEClip"]

bring_settings_of_checkpoint()
name_new_places()
export_the_given_model()
tell_errors_in_one_message()
version_first_tests()
