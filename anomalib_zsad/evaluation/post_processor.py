"""From raw probabilities to decisions, without changing any rank."""

from typing import Any, Literal

import torch
from anomalib.data import Batch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from anomalib_zsad.evaluation.f1_threshold import BinnedF1Threshold

_MARGIN = 1e-6
"""How near a threshold may come to 0 and 1, so that the scores beyond it still have a side of the map."""


class MonotonePostProcessor(PostProcessor):
    """Anomalib's post-processor for probabilities: 0 stays 0, the threshold becomes 0.5, 1 stays 1, linear between.

    Nothing is clamped and no minimum or maximum of other data enters, so that the order of scores stays. Without a
    threshold, scores are left as they are. In 32 bits, scores closer than 3e-7 may become equal.

    Args:
        **options: Those of anomalib's post-processor.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The metric of the base class keeps every pixel of the validation data.
        self._pixel_threshold_metric = BinnedF1Threshold(  # type: ignore[assignment]
            fields=["anomaly_map", "gt_mask"],
            strict=False,
        )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the scores for the thresholds."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        if self.enable_thresholding:
            self._image_threshold_metric.update(outputs)
            self._pixel_threshold_metric.update(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit the thresholds."""
        super().on_validation_epoch_end(trainer, pl_module)
        # anomalib takes the lowest score that counts as anomalous and then asks for more than it.
        self._image_threshold.copy_(torch.nextafter(self._image_threshold, torch.zeros_like(self._image_threshold)))

    def raw_threshold(self, level: Literal["image", "pixel"]) -> Tensor:  # ()
        """Return the raw score above which the decision is "anomalous", whatever the sensitivity.

        Args:
            level: Whose decision.
        """
        threshold, flips_at = {
            "image": (self.image_threshold, self.normalized_image_threshold),
            "pixel": (self.pixel_threshold, self.normalized_pixel_threshold),
        }[level]
        flips_at = flips_at.to(threshold)
        if not self.enable_normalization:
            return flips_at
        threshold = _usable(threshold)
        upper = 1 - (1 - flips_at) * (1 - threshold) * 2
        return torch.where(flips_at <= 0.5, flips_at * threshold * 2, upper)

    @staticmethod
    def _normalize(
        preds: Tensor | None,  # any shape
        norm_min: Tensor,
        norm_max: Tensor,
        threshold: Tensor,  # ()
    ) -> Tensor | None:
        del norm_min, norm_max
        if preds is None:
            return None
        # Products before quotients: at the threshold both sides are 0.5 to the last bit, so no rank is turned there.
        threshold = _usable(threshold)
        lower = 0.5 * preds / threshold
        upper = 1 - 0.5 * (1 - preds) / (1 - threshold)
        return torch.where(preds <= threshold, lower, upper)


def _usable(threshold: Tensor) -> Tensor:  # ()
    return torch.where(torch.isnan(threshold), 0.5, threshold).clamp(_MARGIN, 1 - _MARGIN)
