"""What the papers leave open, one frozen dataclass a method: the argument `choices` of its model."""

from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices

__all__ = ["KAnoChoices", "WMoEChoices"]
