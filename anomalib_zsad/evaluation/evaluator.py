"""Metrics of the raw scores, per category and their mean."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AnomalibMetric, Evaluator
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.console import Console

from anomalib_zsad.data.item import categories_of
from anomalib_zsad.data.names import dataset_key, dataset_keys
from anomalib_zsad.data.sharing import ShareOfCategories
from anomalib_zsad.evaluation.category_scores import CategoryScores
from anomalib_zsad.evaluation.decisions import check_before_decisions, decide
from anomalib_zsad.evaluation.intervals import ImageBins, with_intervals
from anomalib_zsad.evaluation.pixel_scores import fold_to_fit
from anomalib_zsad.evaluation.scored_image import ScoredImage, scored_images
from anomalib_zsad.evaluation.table import (
    CategoryResult,
    curves_table,
    mean_values,
    printed_tables,
    results_table,
    scores_table,
    write_csv,
)
from anomalib_zsad.evaluation.validation_scores import ValidationScores
from anomalib_zsad.functional.processes import known_to_processes

logger = logging.getLogger(__name__)

_LABEL_NAMES = {True: "anomalous", False: "normal", None: "unknown"}
_PLAIN_WIDTH = 120


class ZeroShotEvaluator(Evaluator):
    """Anomalib's evaluator component for models whose scores are probabilities.

    Reads the raw scores, so it must come before the post-processor among the callbacks. Testing gives image AUROC,
    AP and F1-max, pixel AUROC, AP, F1-max, AUPRO and AUPRO-200 of every category, F1, precision and recall at the
    fitted thresholds, and their mean over categories, never over pooled images: logged (the means), printed, kept in
    `table`, and written to `metrics.csv` with a note where a metric is not available; `scores.csv` holds the score of
    every image, `curves.csv` the ROC and PRO curves. F1-max is the F1 at the best threshold for the test data.
    Several processes need a `CategoryDataModule`, which shares categories among them.

    Validation gives image AUROC and AP, and pixel AUROC and AP where there are masks, of all its images together: they
    are logged by the same names, for callbacks such as `EarlyStopping(monitor="image_AUROC", mode="max")`.

    Pixels are exact as long as those of unfinished categories fit into `pixel_memory`; beyond that the largest
    category is binned, and its note bounds the error. `watch`, where it is set, is called with the category and the raw
    scores of every tested image.

    Args:
        val_metrics: Further metrics of anomalib, of the validation data; each goes before one of ours of its name.
        test_metrics: Further metrics of anomalib, of the raw scores or of the decisions (`pred_label`, `pred_mask`).
        pixel_memory: Bytes for pixels.
        intervals: Whether `metrics.csv` has 95 % bootstrap intervals of the metrics of scores (`intervals`); each image
            takes 60 kB more, and a category a second or two.

    Raises:
        ValueError: If a validation metric needs decisions, whose thresholds validation only fits.
    """

    def __init__(
        self,
        val_metrics: AnomalibMetric | Sequence[AnomalibMetric] | None = None,
        test_metrics: AnomalibMetric | Sequence[AnomalibMetric] | None = None,
        pixel_memory: int = 2**30,
        intervals: bool = False,
    ) -> None:
        super().__init__(val_metrics, test_metrics)
        check_before_decisions(self.val_metrics)
        self.validation = ValidationScores()
        self.pixel_memory, self.intervals = pixel_memory, intervals
        self.forget()
        self.watch: Callable[[str, ScoredImage], None] | None = None
        self._start(awaited={})

    def forget(self) -> None:
        """Discard the results of the last test, which are not those of other weights."""
        self.table: pd.DataFrame | None = None
        self.tested_on: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the results of weights that are about to change."""
        del trainer, pl_module
        self.forget()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the scores of earlier epochs."""
        del trainer, pl_module
        self.validation.reset()

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the raw scores of one batch."""
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self.validation.update(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log AUROC and AP of the validation data."""
        super().on_validation_epoch_end(trainer, pl_module)
        users = {metric.name for metric in self.val_metrics}
        _log(trainer, pl_module, {name: each for name, each in self.validation.compute().items() if name not in users})

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the scores of earlier runs."""
        del pl_module
        _check_processes(trainer)
        self._start(_images_per_category(trainer.test_dataloaders))

    @torch.no_grad()
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the raw scores of one batch, and finish the categories that are complete with it."""
        decided = decide(batch, getattr(pl_module, "post_processor", None))
        with_decisions = batch.update(in_place=False, **decided) if self.test_metrics else batch
        super().on_test_batch_end(trainer, pl_module, outputs, with_decisions, batch_idx, dataloader_idx)
        categories = categories_of(batch, getattr(trainer, "datamodule", None))
        for name, image in zip(categories, scored_images(batch, decided), strict=True):
            self._open[name].add(image)
            if self.watch is not None:
                self.watch(name, image)
            self._rows.append((image.path, name, _LABEL_NAMES[image.label], image.score))
            fold_to_fit([each.pixels for each in self._open.values()], self.pixel_memory)
            if len(self._open[name].scores) == self._awaited.get(name):
                self._results[name] = self._open.pop(name).result()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, log, print and write the table."""
        super().on_test_epoch_end(trainer, pl_module)
        while self._open:
            name, category = self._open.popitem()
            self._results[name] = category.result()
        self._share()
        datamodule = getattr(trainer, "datamodule", None)
        self._note_training_data(pl_module, datamodule)
        self.tested_on = [] if datamodule is None else sorted(dataset_keys(datamodule))
        self.table = with_intervals(results_table(self._results), self._results)
        _log(trainer, pl_module, mean_values(self.table))
        if trainer.is_global_zero:
            self._report(Path(trainer.default_root_dir), self.table)

    def _start(self, awaited: dict[str, int]) -> None:
        self._awaited = awaited
        self._open: defaultdict[str, CategoryScores] = defaultdict(
            lambda: CategoryScores(images=ImageBins() if self.intervals else None)
        )
        self._results: dict[str, CategoryResult] = {}
        self._rows: list[tuple[str, str, str, float]] = []

    def _share(self) -> None:
        """Gather the results of the other processes."""
        everyones = known_to_processes((self._results, self._rows))
        if len(everyones) > 1:
            self._results = {name: result for results, _ in everyones for name, result in results.items()}
            self._rows = sorted(row for _, rows in everyones for row in rows)

    def _report(self, folder: Path, table: pd.DataFrame) -> None:
        console = Console()
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
        console.print(*printed_tables(table))
        write_csv(folder / "metrics.csv", table)
        write_csv(folder / "scores.csv", scores_table(self._rows))
        write_csv(folder / "curves.csv", curves_table(self._results))
        logger.info("Metrics written to %s, the score of every image to scores.csv beside it.", folder / "metrics.csv")

    def _note_training_data(self, pl_module: LightningModule, datamodule: Any) -> None:
        notes = training_notes(getattr(pl_module, "trained_on", ()), datamodule, self._results)
        for name, note in notes.items():
            self._results[name].notes.insert(0, note)
        if notes:
            logger.warning("The model is tested on the dataset it was trained on: see the notes of the table.")


def training_notes(trained_on: Sequence[str], datamodule: Any, categories: Iterable[str]) -> dict[str, str]:
    """Report which results are of a dataset that the model was trained on.

    Args:
        trained_on: "dataset/category" of all training data.
        datamodule: The datamodule that is tested, or the one whose target is.
        categories: Those that were tested.

    Returns:
        A note by category; none where the model has not seen the dataset.
    """
    if datamodule is None:
        return {}
    tested = dataset_keys(datamodule)
    seen = {each.split("/", 1)[-1] for each in trained_on if dataset_key(each) in tested}
    known = "not zero-shot: the model was trained on this category"
    related = "the model was trained on other categories of this dataset"
    return {name: known if name in seen else related for name in categories} if seen else {}


def _log(trainer: Trainer, pl_module: LightningModule, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        pl_module.log(name, value, sync_dist=True)
        if trainer.barebones:  # which logs nothing
            trainer.callback_metrics[name] = trainer.logged_metrics[name] = torch.tensor(value)


def _check_processes(trainer: Trainer) -> None:
    """Refuse to test in several processes unless each has whole categories."""
    samplers = [getattr(loader, "sampler", None) for loader in _listed(trainer.test_dataloaders)]
    if trainer.world_size > 1 and not all(isinstance(each, ShareOfCategories) for each in samplers):
        msg = (
            f"Testing in {trainer.world_size} processes needs a datamodule of this package with at least as many "
            f"categories: pass one, or devices=1, num_nodes=1; what was trained before is in its checkpoint."
        )
        raise ValueError(msg)


def _images_per_category(dataloaders: Any) -> dict[str, int]:
    loaders = _listed(dataloaders)
    samples = [getattr(getattr(loader, "dataset", None), "samples", None) for loader in loaders]
    names = [table["category"] for table in samples if table is not None and "category" in table]
    return pd.concat(names).value_counts().to_dict() if len(names) == len(samples) else {}


def _listed(dataloaders: Any) -> list[Any]:
    return list(dataloaders) if isinstance(dataloaders, list | tuple) else [dataloaders]
