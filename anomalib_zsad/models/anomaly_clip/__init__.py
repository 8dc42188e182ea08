"""AnomalyCLIP (arXiv 2310.18961)."""

from anomalib_zsad.models.anomaly_clip.lightning_model import AnomalyClip

__all__ = ["AnomalyClip"]
