"""Thresholds from normal images alone, with a guaranteed rate of false alarms."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from anomalib_zsad.clip.digest import hash_file
from anomalib_zsad.data.adopting import ImageFiles
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.conformal import check_number
from anomalib_zsad.image_files import images_of

__all__ = ["calibrate"]

logger = logging.getLogger(__name__)


def calibrate(
    model: Any,  # a model of this package
    images: str | Path | Sequence[str | Path],
    false_alarms: float = 0.01,
    source: str | None = None,
) -> Calibration:
    """Set the thresholds of a model on normal images, with a guaranteed rate of false alarms.

    Split-conformal: a new normal image of the same process is called anomalous with a probability of at most
    `false_alarms`, and has a marked pixel with a probability of at most `false_alarms`. The images must be new to the
    model: neither trained on nor its references, which are left out here.

    Args:
        model: A trained model, changed in place: its thresholds, and p-values beside its predictions.
        images: Normal images: a folder, or files and folders.
        false_alarms: The highest rate of false alarms, in (0, 1).
        source: The name of the images in the calibration. None: the given paths.

    Returns:
        The calibration that the thresholds follow from.

    Raises:
        FileNotFoundError: If an image or folder does not exist.
        ValueError: If there are too few images for this rate, or the model's post-processor has other thresholds.
    """
    post_processor = model.post_processor
    if not isinstance(post_processor, MonotonePostProcessor):
        msg = f"calibrate: expected a model with a MonotonePostProcessor, got {type(post_processor).__name__}"
        raise ValueError(msg)
    named = [images] if isinstance(images, str | Path) else list(images)
    files = _without_references(_different(path for name in named for path in images_of(name)), model)
    check_number(len(files), false_alarms)
    scores = _score(model, files)
    calibration = Calibration.of_scores(*scores, false_alarms, source or ", ".join(map(str, named)))
    post_processor.calibrate(calibration)
    logger.info(
        "Calibrated on %s: thresholds %.6g of images, %.6g of pixels.",
        calibration,
        calibration.image_threshold,
        calibration.pixel_threshold,
    )
    return calibration


class _RawScores(Callback):
    """Collects the raw score of each image and the maximum of its raw map, before the post-processor runs."""

    def __init__(self) -> None:
        self.images: list[float] = []
        self.maxima: list[float] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        self.images += batch.pred_score.tolist()
        self.maxima += batch.anomaly_map.flatten(1).amax(1).tolist()


def _score(model: Any, files: Sequence[Path]) -> tuple[list[float], list[float]]:
    raw = _RawScores()
    dataset = ImageFiles(files[0])
    dataset.image_filenames = list(files)
    loader = DataLoader(dataset, batch_size=dataset.eval_batch_size, collate_fn=dataset.collate_fn)
    with TemporaryDirectory() as folder, _without_pictures(model):
        trainer = Trainer(
            callbacks=[raw],
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.predict(model, loader, return_predictions=False)
    return raw.images, raw.maxima


@contextmanager
def _without_pictures(model: Any) -> Iterator[None]:
    visualizer, model.visualizer = model.visualizer, None
    try:
        yield
    finally:
        model.visualizer = visualizer


def _different(files: Iterable[Path]) -> list[Path]:
    return list({path.resolve(): path for path in files}.values())


def _without_references(files: Sequence[Path], model: Any) -> list[Path]:
    """Leave out references of a few-shot model or of an ensemble's member, by content: their scores are too low."""
    references = {digest for part in model.modules() for digest in getattr(part, "reference_digests", ())}
    others = [path for path in files if not references or hash_file(path) not in references]
    if len(others) < len(files):
        logger.info("%d references are left out of the calibration.", len(files) - len(others))
    return others
