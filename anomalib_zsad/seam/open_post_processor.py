"""What anomalib's post-processor keeps to itself: its thresholds, the metrics that fit them, the map of the scores."""

from typing import Any

from anomalib.metrics import AnomalibMetric
from anomalib.post_processing import PostProcessor
from torch import Tensor

THRESHOLDS = {"image": "_image_threshold", "pixel": "_pixel_threshold"}
"""The names of both thresholds in the state of a post-processor."""


def raw_thresholds(
    post_processor: Any,  # a PostProcessor, or anything else, which has none
) -> dict[str, Tensor]:  # ()
    """Return the buffers of the "image" and the "pixel" threshold, as fitted or loaded; NaN: not known."""
    if not isinstance(post_processor, PostProcessor):
        return {}
    return {level: getattr(post_processor, name) for level, name in THRESHOLDS.items()}


class OpenPostProcessor(PostProcessor):
    """anomalib's post-processor, whose map of scores and metrics can be replaced.

    Args:
        pixel_metric: Fits the threshold of pixels; the metric of anomalib keeps every pixel of the validation data.
        **options: Those of anomalib's post-processor.
    """

    def __init__(self, pixel_metric: AnomalibMetric, **options: Any) -> None:
        super().__init__(**options)
        self._pixel_threshold_metric = pixel_metric  # type: ignore[assignment]

    def rescale(
        self,
        scores: Tensor,  # any shape
        threshold: Tensor,  # ()
    ) -> Tensor:  # the same
        """Map raw scores to what is shown; an ONNX graph takes it over."""
        raise NotImplementedError

    def update_thresholds(
        self,
        batch: Any,  # of anomalib, with raw scores
    ) -> None:
        """Take the scores of a batch of validation data for both thresholds."""
        self._image_threshold_metric.update(batch)
        self._pixel_threshold_metric.update(batch)

    def _normalize(  # type: ignore[override]
        self, preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor
    ) -> Tensor | None:
        del norm_min, norm_max
        return None if preds is None else self.rescale(preds, threshold)
