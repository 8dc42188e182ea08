"""AUROC and average precision of the validation data during training."""

import numpy as np
import torch
from anomalib.data import ImageBatch
from torch import Tensor, nn

from anomalib_zsad.evaluation.binning import BINS, bin_floors, count_scores
from anomalib_zsad.functional.curves import DetectionCurve, Increments
from anomalib_zsad.functional.processes import sum_over_processes

LEVELS = ("image", "pixel")


class ValidationScores(nn.Module):
    """AUROC and average precision of all validation images together and of all their pixels, in bounded memory.

    Scores of one bin (`evaluation.binning`) count as equal.
    """

    counts: Tensor  # (levels, 2, BINS): normal, anomalous

    def __init__(self) -> None:
        super().__init__()
        empty = torch.zeros(len(LEVELS), 2, BINS, dtype=torch.int64)
        self.register_buffer("counts", empty, persistent=False)

    def reset(self) -> None:
        """Discard all scores."""
        self.counts.zero_()

    def update(self, batch: ImageBatch) -> None:
        """Add the scores of a batch where it has labels and masks."""
        for level, (scores, truth) in enumerate(
            ((batch.pred_score, batch.gt_label), (batch.anomaly_map, batch.gt_mask))
        ):
            if scores is not None and truth is not None:
                count_scores(self.counts[level], scores, truth)

    def compute(self) -> dict[str, float]:
        """Compute the metrics that the data allow, over all processes: every process must call this."""
        everyones = sum_over_processes(self.counts).cpu().numpy()
        return {
            f"{level}_{name}": value
            for level, counts in zip(LEVELS, everyones, strict=True)
            if counts.any(axis=1).all()
            for name, value in _of_counts(counts).items()
        }


def _of_counts(
    counts: np.ndarray,  # (2, BINS)
) -> dict[str, float]:
    filled = counts.any(axis=0)
    falling = counts[:, filled][:, ::-1].astype(np.float64)
    curve = DetectionCurve(*counts.sum(axis=1))
    scores = bin_floors().numpy()[filled][::-1]
    curve.add(Increments(scores, np.vstack([falling, np.zeros_like(scores)])))
    return {"AUROC": curve.auroc, "AP": curve.average_precision}
