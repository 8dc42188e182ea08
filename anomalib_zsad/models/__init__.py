"""The methods, each an anomalib model."""

from anomalib_zsad.models.af_clip import AFClip

__all__ = ["AFClip"]
