"""The methods, each an anomalib model."""

from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.af_clip import AFClip
from anomalib_zsad.models.anomaly_clip import AnomalyClip
from anomalib_zsad.models.clip_zero_shot import ClipZeroShot
from anomalib_zsad.models.commands import settings_beside, with_new_place
from anomalib_zsad.models.ensemble import Ensemble
from anomalib_zsad.models.kano_clip import KAnoClip
from anomalib_zsad.models.parts.persistence import Persistence
from anomalib_zsad.models.wmoe_clip import WMoEClip
from anomalib_zsad.seam.command_line import build_models_as_trained, explain_refusals
from anomalib_zsad.seam.engine_export import export_the_given_model
from anomalib_zsad.seam.errors import tell_errors_in_one_message
from anomalib_zsad.seam.results_folder import version_first_tests

__all__ = ["ACDClip", "AFClip", "AnomalyClip", "ClipZeroShot", "Ensemble", "KAnoClip", "WMoEClip"]

build_models_as_trained(settings_beside)
explain_refusals(with_new_place)
export_the_given_model(Persistence)
tell_errors_in_one_message()
version_first_tests()
