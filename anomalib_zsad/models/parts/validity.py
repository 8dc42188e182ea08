"""Range checks: of scores when they are computed, of weights, thresholds and memories when they are loaded."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

_ROUNDING = 1e-5
"""The largest excess over [0, 1] that rounding may cause in a score."""
_MAY_BE_UNKNOWN = ("_threshold", "_min", "_max", "_scale.mean", "_scale.deviation")
"""Endings of the names of tensors that are NaN until they are fitted to data."""


def check_scores(
    result: Any,  # a result or a batch of anomalib, with raw scores
    batch: Any,  # of anomalib, with the paths of its images where they are known
    member: str | None = None,
) -> None:
    """Check that all scores of a batch are in [0, 1]; that those of an ensemble's member are finite.

    Raises:
        ValueError: If one is not; the message names the image.
    """
    _check(_extremes(result), batch.image_path, member)


class ScoreCheck(Callback):
    """Ends a run with scores that are not in [0, 1], by a `ValueError` that names the image.

    It must come before the callbacks that read scores. Those of validation data are checked when the epoch ends, before
    a threshold is fitted: read for each batch, a GPU would be waited for each time.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[dict[str, Tensor], Any]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what an interrupted epoch has left."""
        del trainer, pl_module
        self._waiting = []

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the lowest and the highest score of each image."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        self._waiting.append((_extremes(batch), batch.image_path))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check them."""
        del trainer, pl_module
        for extremes, paths in self._waiting:
            _check(extremes, paths)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Check the scores of a batch, which are about to be read."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        check_scores(batch, batch)

    on_predict_batch_end = on_test_batch_end


def check_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    origin: str,
) -> None:
    """Check the types and ranges of tensors that are to be loaded.

    Args:
        tensors: Those of a file, by name.
        expected: Those that they replace; other names are not checked.
        origin: The file, for messages.

    Raises:
        ValueError: If a tensor has another type, or values out of range; the message names it.
    """
    for name in tensors.keys() & expected.keys():
        fault = _fault(name, tensors[name], expected[name])
        if fault is not None:
            msg = f"{origin}: expected {name} {fault}"
            raise ValueError(msg)


def _extremes(result: Any) -> dict[str, Tensor]:  # (B, 2)
    """Return the lowest and the highest score of each image and of its map; both are NaN where any is."""
    given = {name: values for name in ("pred_score", "anomaly_map") if (values := getattr(result, name)) is not None}
    return {name: torch.stack(values.reshape(len(values), -1).aminmax(dim=1), dim=1) for name, values in given.items()}


def _check(
    extremes: Mapping[str, Tensor],  # (B, 2)
    paths: Sequence[Any] | None,
    member: str | None = None,
) -> None:
    for name, values in zip(extremes, torch.stack(list(extremes.values())).tolist(), strict=True):  # one read
        for row, value in ((row, each) for row, pair in enumerate(values) for each in pair):
            if not (math.isfinite(value) if member else -_ROUNDING <= value <= 1 + _ROUNDING):
                image = paths[row] if paths else f"image {row + 1} of the batch"
                msg = (
                    f"{image}: expected {f'finite scores of {member}' if member else 'scores in [0, 1]'}, got {name} "
                    f"{value:g}: weights are damaged, or numbers overflow (try precision fp32)"
                )
                raise ValueError(msg)


def _fault(name: str, given: Any, expected: Tensor) -> str | None:
    if not isinstance(given, Tensor):
        return f"to be a tensor, got {type(given).__name__}"
    if given.is_floating_point() != expected.is_floating_point():
        return f"to be of {expected.dtype}, got {given.dtype}".replace("torch.", "")
    values = given.double() if given.is_floating_point() else given
    if name.endswith(_MAY_BE_UNKNOWN):
        values = values[~values.isnan()]
    if not values.isfinite().all():
        return f"to be finite, got {int((~values.isfinite()).sum())} of {given.numel()} values that are not"
    if name.endswith("_threshold") and not _within(values, 0, 1).all():
        return f"in [0, 1], got {values.item():g}"
    if name.endswith(("running_var", "_scale.deviation")) and (values < 0).any():
        return f"of at least 0, got {values.min().item():g}"
    if name.endswith("memory.features") and (values.ndim != 3 or not _within(values.norm(dim=-1), 0, 1.01).all()):
        return "to be a memory of features of length 1, shape (sets, patches, width), got others"
    return None


def _within(values: Tensor, low: float, high: float) -> Tensor:
    """Return which values lie in a closed interval; NaN does not."""
    return (values >= low) & (values <= high)
