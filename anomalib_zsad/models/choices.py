"""The settings that papers leave open, one frozen dataclass for each method: the argument `choices`."""

from anomalib_zsad.models.acd_clip.choices import ACDChoices
from anomalib_zsad.models.af_clip.choices import AFChoices
from anomalib_zsad.models.anomaly_clip.choices import AnomalyChoices
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices

__all__ = ["ACDChoices", "AFChoices", "AnomalyChoices", "KAnoChoices", "WMoEChoices"]
