"""The threshold of best F1, in bounded memory."""

import logging

import torch
from anomalib.metrics import AnomalibMetric
from anomalib.metrics.threshold import Threshold
from torch import Tensor

from anomalib_zsad.evaluation.binning import BINS, bin_floors, count_scores

logger = logging.getLogger(__name__)


class _BinnedF1Threshold(Threshold):
    counts: Tensor  # (2, BINS): normal, anomalous

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(2, BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:  # any shape, in [0, 1]; the same, true where anomalous
        """Count scores into bins."""
        count_scores(self.counts, preds, target)

    def compute(self) -> Tensor:  # ()
        """Return the lowest score of the bin from which on upwards F1 is best.

        Without anomalous scores this is the lowest of the first bin above them all, without normal ones that of the
        first bin that holds one, as anomalib's metric does.
        """
        filled = self.counts.any(dim=0)
        normal, anomalous = self.counts[:, filled]
        floors = bin_floors().to(self.counts.device)
        if not anomalous.any():
            logger.warning("No anomalous pixel in the validation data: the threshold is its highest pixel score.")
            return floors[(filled.nonzero().max() + 1).clamp(max=BINS - 1)]
        if not normal.any():
            logger.warning("No normal pixel in the validation data: the threshold is its lowest pixel score.")
            return floors[filled.nonzero().min()]
        found = anomalous.flip(0).cumsum(0).flip(0)
        passed = (normal + anomalous).flip(0).cumsum(0).flip(0)
        return floors[filled][(2 * found / (passed + anomalous.sum())).argmax()]


class BinnedF1Threshold(AnomalibMetric, _BinnedF1Threshold):  # type: ignore[misc]  # anomalib's way of wrapping
    """Anomalib's F1AdaptiveThreshold of scores in [0, 1] for any number of pixels, to a bin's width.

    Args:
        fields: The batch's fields with the scores and the truth.
        strict: Whether a batch without them is an error.
    """
