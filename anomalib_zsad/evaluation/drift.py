"""Whether the images of a running line still score like those of the calibration."""

import logging
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from scipy.stats import ks_2samp

from anomalib_zsad.evaluation.calibration import Calibration

logger = logging.getLogger(__name__)


class DriftGuard:
    """Compares each window of recent image scores with those of the calibration (two-sample Kolmogorov-Smirnov test).

    This is the test of recent p-values against uniform, but for p-values that come from a finite calibration. The k-th
    window is tested at level / (k (k + 1)), which adds up to `level`: while nothing changes, that is the probability
    that the guard ever speaks, however long the line runs.

    Args:
        calibration: What images are compared with.
        window: Images of a window.
        level: The probability of any false warning.
    """

    def __init__(self, calibration: Calibration, window: int = 100, level: float = 0.01) -> None:
        self.calibration = calibration
        self.window = window
        self.level = level
        self.has_drifted = False
        self.tests = 0
        """Windows that were tested."""
        self.last_p_value: float | None = None
        """The p-value of the last window."""
        self._recent: list[float] = []

    @property
    def waiting(self) -> int:
        """Images of the window that is not complete yet."""
        return len(self._recent)

    def add(
        self,
        scores: Iterable[float],  # raw image scores
    ) -> list[float]:
        """Take further images in their order.

        Returns:
            The test's p-value of each window that was completed and has drifted; mostly none.
        """
        drifted = []
        for score in scores:
            self._recent.append(score)
            if len(self._recent) == self.window:
                drifted += self._test()
        self.has_drifted = self.has_drifted or bool(drifted)
        return drifted

    def _test(self) -> list[float]:
        self.tests += 1
        self.last_p_value = p_value = float(ks_2samp(self._recent, self.calibration.image_scores).pvalue)
        self._recent.clear()
        return [p_value] if p_value < self.level / (self.tests * (self.tests + 1)) else []


class DriftWarning(Callback):
    """Warns once in a prediction with a calibrated model when the images no longer score like those of the calibration.

    It must come before the post-processor among the callbacks, to see the raw scores.
    """

    def __init__(self) -> None:
        self._guard: DriftGuard | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to watch, where the model is calibrated."""
        del trainer
        calibration = getattr(pl_module.post_processor, "calibration", None)
        self._guard = None if calibration is None else DriftGuard(calibration)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the scores of a batch."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        guard = self._guard
        if guard is None or guard.has_drifted:
            return
        if drifted := guard.add(batch.pred_score.tolist()):
            logger.warning(
                "The last %d images do not score like the calibration (%s): Kolmogorov-Smirnov p = %.2g. The share of "
                "defects is high or the scene has changed; after a change of the scene the promised rate of false "
                "alarms no longer holds: calibrate again.",
                guard.window,
                guard.calibration,
                drifted[0],
            )
