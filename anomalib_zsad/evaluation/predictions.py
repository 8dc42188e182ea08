"""A CSV file with the prediction for every image."""

import csv
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from anomalib.data import ImageBatch, InferenceBatch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.evaluation.decisions import decision_of
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.processes import pooled
from anomalib_zsad.printing import cell

logger = logging.getLogger(__name__)

Row = tuple[str, ...]

COLUMNS = ("image_path", "score", "threshold", "label", "normalized_score", "p_value")


class PredictionWriter(Callback):
    """Writes `predictions.csv` into the run's folder: path, raw score, raw threshold, label, normalised score, p-value.

    It must come before the post-processor among the callbacks, to see the raw scores. What has been predicted is kept
    when a run is interrupted. Threshold, label and normalised score stay empty for a model without a
    `MonotonePostProcessor`, the p-value for one that is not calibrated. Several processes write one file in the order
    of the dataset; until they are done each has its rows in `predictions_<rank>.csv`.
    """

    def __init__(self) -> None:
        self._file: ExitStack | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file."""
        del pl_module
        rank = f"_{trainer.global_rank}" if trainer.world_size > 1 else ""
        self._path = Path(trainer.default_root_dir) / f"predictions{rank}.csv"
        self._rows: list[Row] = []
        self._file = ExitStack()
        temporary = self._file.enter_context(whole_file(self._path))
        self._stream = self._file.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        self._writer = csv.writer(self._stream)
        self._writer.writerow(COLUMNS)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a row for each image."""
        del trainer, outputs, batch_idx, dataloader_idx
        paths = batch.image_path or [""] * len(batch)
        for row in _rows(batch, list(map(cell, paths)), getattr(pl_module, "post_processor", None)):
            self._writer.writerow(row)
            self._rows.append(row)
        self._stream.flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the finished file to its place."""
        del pl_module
        self._keep()
        if trainer.world_size > 1:
            self._merge(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep the rows written so far; without any, the file of an earlier run stays."""
        del trainer, pl_module
        if self._file is not None and self._rows:
            self._keep()
        elif self._file is not None:
            self._file.__exit__(type(exception), exception, exception.__traceback__)
            self._file = None

    def _keep(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        logger.info("%d predictions written to %s.", len(self._rows), self._path)

    def _merge(self, trainer: Trainer) -> None:
        """Let the first process write the rows of all processes into one file."""
        # `limit_predict_batches` may end before the last place.
        everyones = pooled(zip(_places(trainer.predict_dataloaders), self._rows, strict=False))
        if trainer.is_global_zero:
            path = self._path.with_name("predictions.csv")
            with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([COLUMNS, *(row for _, row in sorted(everyones))])
            logger.info("%d predictions of %d processes written to %s.", len(everyones), trainer.world_size, path)
        trainer.strategy.barrier()
        self._path.unlink()


def _places(dataloaders: Any) -> list[tuple[int, int]]:
    """List where the images of this process stand: loader and index, in the order in which they are predicted."""
    loaders = dataloaders if isinstance(dataloaders, list) else [dataloaders]
    return [(number, index) for number, loader in enumerate(loaders) for index in loader.batch_sampler.sampler]


def _rows(
    batch: ImageBatch,
    paths: Sequence[str],
    post_processor: Any,
) -> Iterator[Row]:
    raw: Any = batch.pred_score  # (B,)
    scores = _numbers(raw)  # of all images at once: each read of a GPU waits for it
    if not isinstance(post_processor, MonotonePostProcessor):
        yield from ((path, score, "", "", "", "") for path, score in zip(paths, scores, strict=True))
        return
    (threshold,) = _numbers(post_processor.raw_threshold("image")[None])
    decided = post_processor(InferenceBatch(pred_score=raw))
    labels = [""] * len(scores)
    if decided.pred_label is not None:
        labels = list(map(decision_of, decided.pred_label.tolist()))
    post_processor.add_p_values(batch)
    p_values = _numbers(getattr(batch, "p_value", None)) or [""] * len(scores)
    for path, score, label, normalised, p_value in zip(
        paths, scores, labels, _numbers(decided.pred_score), p_values, strict=True
    ):
        yield path, score, threshold, label, normalised, p_value


def _numbers(
    values: Tensor | None,  # (n,)
) -> list[str]:
    return [] if values is None else [f"{value:.9g}" for value in values.tolist()]
