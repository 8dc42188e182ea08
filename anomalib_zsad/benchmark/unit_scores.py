"""Raw scores of any of anomalib's models on one scale from 0 to 1."""

from typing import Any

import torch
from anomalib.data import ImageBatch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn


class UnitScores(nn.Module, Callback):
    """Replaces a post-processor: x / (1 + x) of every score, or `signed_unit`, which keep their order.

    anomalib's own post-processor clamps scores with statistics of other data, so its metrics are not those of the raw
    scores. In 32 bits two scores x that differ by less than 6e-8 (1 + x)^2 may become equal.

    Args:
        signed: Whether scores may lie below 0.
    """

    def __init__(self, signed: bool = False) -> None:
        super().__init__()
        self._unit = signed_unit if signed else unit

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Rescale the scores of a batch; an image's score is its largest pixel's where the model gives none."""
        del trainer, batch, batch_idx, dataloader_idx
        if outputs.pred_score is None:
            outputs.pred_score = outputs.anomaly_map.amax(dim=(-2, -1))
        name = type(pl_module).__name__
        outputs.pred_score = self._unit(outputs.pred_score, name)
        if outputs.anomaly_map is not None:
            outputs.anomaly_map = self._unit(outputs.anomaly_map, name)


def unit(scores: Tensor, name: str) -> Tensor:
    """Bring scores from [0, inf) to [0, 1).

    Args:
        scores: Raw scores, of any shape.
        name: The model's, for the message.

    Raises:
        ValueError: If one is negative or no number.
    """
    if not bool((scores >= 0).all()) or bool(torch.isinf(scores).any()):
        msg = (
            f"{name}: expected finite raw scores of at least 0, got {scores.min():g} to {scores.max():g} "
            "(signed_scores: true in the model's entry allows those below 0)"
        )
        raise ValueError(msg)
    return scores / (1 + scores)


def signed_unit(scores: Tensor, name: str) -> Tensor:
    """Bring scores from (-inf, inf) to (0, 1); near 0 the resolution is lower than that of `unit`.

    Args:
        scores: Raw scores, of any shape.
        name: The model's, for the message.

    Raises:
        ValueError: If one is infinite or no number.
    """
    if not bool(torch.isfinite(scores).all()):
        msg = f"{name}: expected finite raw scores, got {scores.min():g} to {scores.max():g}"
        raise ValueError(msg)
    return 0.5 + 0.5 * scores / (1 + scores.abs())
