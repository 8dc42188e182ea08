"""How often tests and predictions read from the device: for each batch, not for each image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback, Trainer
from torch.overrides import TorchFunctionMode

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.drift import DriftWarning
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.predictions import PredictionWriter
from anomalib_zsad.evaluation.visualizer import CategoryVisualizer
from anomalib_zsad.models.parts.validity import ScoreCheck, check_scores
from tests.support.scored_batches import Passing, Scored, scored_batch

TrainerWith = Callable[..., Trainer]
READS = {
    *("item", "tolist", "cpu", "numpy", "nonzero", "bincount", "unique", "allclose", "equal"),
    *("__bool__", "__float__", "__int__", "__index__", "__array__", "__format__", "__contains__"),
}


CALIBRATION = Calibration(
    image_scores=(0.1, 0.2, 0.3), map_maxima=(0.2, 0.3, 0.4), false_alarms=0.5, source="folder", date="2026-11-30"
)


class Reads(TorchFunctionMode):
    """Counts what would copy values to the CPU, if the tensors were on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        self.count += name in READS or (name == "to" and "cpu" in map(str, (*args[1:], *kwargs.values())))
        return func(*args, **kwargs)


class At(Callback):
    """Calls a function with the first batch, once the callbacks before this one have seen its scores."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self.call = call

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, index: int, *_: Any) -> None:
        if not index:
            self.call(batch)

    on_validation_batch_end = on_predict_batch_end = on_test_batch_end


def batch_of(count: int) -> CategoryBatch:
    levels = np.linspace(0, 0.9, count * 64, dtype=np.float32).reshape(count, 8, 8)
    return scored_batch(levels.max((1, 2)).tolist(), [row % 2 for row in range(count)], levels, levels > 0.5)


@pytest.fixture
def reads_of(trainer_with: TrainerWith, tmp_path: Path) -> Callable[..., int]:
    def count_reads(stage: str, count: int, *others: Callback) -> int:
        """Count the reads of the callbacks in the first batch; a second one ends the category."""
        reads, post_processor = Reads(), MonotonePostProcessor()
        post_processor.calibrate(CALIBRATION)
        raw = [ScoreCheck(), PredictionWriter(), DriftWarning(), ZeroShotEvaluator(), *others]
        drawn = CategoryVisualizer(output_dir=tmp_path / "pictures")
        begin, end = At(lambda _: reads.__enter__()), At(lambda _: reads.__exit__(None, None, None))
        trainer = trainer_with(begin, *raw, post_processor, drawn, end)
        data = Scored([batch_of(count), batch_of(2)])
        getattr(trainer, stage)(Passing(post_processor=post_processor), datamodule=data)
        return reads.count

    return count_reads


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_batch_of_many_images_is_read_as_often_as_one_of_a_single_image(stage, reads_of):
    one, many = (reads_of(stage, count) for count in (1, 7))
    assert many == one
    assert (many == 0) == (stage == "validate")
    of_every_image = At(lambda batch: [score.item() for score in batch.pred_score])
    assert reads_of(stage, 7, of_every_image) == many + 7


def test_scores_are_checked_by_one_value_for_all_images():
    batch = batch_of(5)
    with Reads() as reads:
        check_scores(batch, batch)
    assert reads.count == 1
