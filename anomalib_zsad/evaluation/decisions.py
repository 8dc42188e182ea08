"""Decisions at the fitted threshold, compared with the labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor
from numpy.typing import NDArray
from torch import Tensor

DECIDED = ("pred_label", "pred_mask")
"""Fields of a batch that exist once a post-processor has applied its thresholds."""

Decision = Literal["normal", "anomalous"]
"""A decision about an image, as files, answers and `Detection.label` have it."""


@dataclass
class DecisionCounts:
    """The counts from which F1, precision and recall are computed."""

    true_positives: int = 0
    predicted: int = 0
    anomalous: int = 0

    def add(
        self,
        decided: NDArray[np.bool_],  # any shape
        truth: NDArray[np.bool_],  # the same
    ) -> None:
        """Count decisions."""
        self.true_positives += int(np.count_nonzero(decided & truth))
        self.predicted += int(np.count_nonzero(decided))
        self.anomalous += int(np.count_nonzero(truth))

    def metrics(self, level: str) -> dict[str, float]:
        """Compute F1, precision and recall; precision is 0 where nothing was called anomalous.

        Args:
            level: "image" or "pixel", in front of the names.
        """
        return {
            f"{level}_F1Score": 2 * self.true_positives / max(self.predicted + self.anomalous, 1),
            f"{level}_Precision": self.true_positives / max(self.predicted, 1),
            f"{level}_Recall": self.true_positives / max(self.anomalous, 1),
        }


def decision_of(is_anomalous: bool) -> Decision:
    """Name a decision."""
    return "anomalous" if is_anomalous else "normal"


def decide(batch: ImageBatch, post_processor: Any) -> dict[str, Tensor]:
    """Apply a post-processor's thresholds to a batch of raw scores without changing it.

    Args:
        batch: With raw scores.
        post_processor: The model's; anything but a `PostProcessor` of anomalib makes no decisions.

    Returns:
        "pred_label" (B,) and "pred_mask" (B, 1, H, W), as far as there are scores and thresholds.
    """
    if not isinstance(post_processor, PostProcessor) or batch.pred_score is None:
        return {}
    result = post_processor(InferenceBatch(pred_score=batch.pred_score, anomaly_map=batch.anomaly_map))
    found = {name: getattr(result, name) for name in DECIDED}
    # Without a threshold anomalib's post-processor returns the scores themselves.
    return {name: value for name, value in found.items() if value is not None and value.dtype == torch.bool}


def check_before_decisions(metrics: Iterable[Any]) -> None:
    """Refuse validation metrics of decisions: thresholds are fitted at the end of validation.

    Raises:
        ValueError: If one needs a field that only thresholds make.
    """
    for metric in metrics:
        if needed := sorted(set(metric.fields) & set(DECIDED)):
            msg = (
                f"val_metrics: expected metrics of pred_score or anomaly_map, got {type(metric).__name__} of "
                f"{needed[0]}: thresholds are fitted at the end of validation; pass it in test_metrics"
            )
            raise ValueError(msg)
