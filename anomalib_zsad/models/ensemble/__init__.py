"""Several detectors as one."""

from anomalib_zsad.models.ensemble.lightning_model import Ensemble

__all__ = ["Ensemble"]
