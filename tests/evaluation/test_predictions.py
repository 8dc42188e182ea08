import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch import Callback, Trainer

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.predictions import PredictionWriter
from tests.support.scored_batches import Passing, Scored, scored_batch

TrainerWith = Callable[..., Trainer]


class StopsAt(Callback):
    """Fails before the given batch."""

    def __init__(self, index: int, exception: BaseException) -> None:
        self.index, self.exception = index, exception

    def on_predict_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        if batch_idx == self.index:
            raise self.exception


def batches() -> list[CategoryBatch]:
    return [scored_batch([0.1, 0.4], None, folder="a"), scored_batch([0.2, 0.9], None, folder="b")]


def predicted(trainer: Trainer, post_processor: Any, folder: Path) -> pd.DataFrame:
    trainer.predict(Passing(post_processor=post_processor), datamodule=Scored(batches()))
    return pd.read_csv(folder / "predictions.csv")


def test_rows_hold_raw_scores_and_the_decisions_of_the_post_processor(
    trainer_with: TrainerWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    post_processor = MonotonePostProcessor()
    post_processor._image_threshold.fill_(0.3)
    with caplog.at_level(logging.INFO):
        rows = predicted(trainer_with(PredictionWriter(), post_processor), post_processor, tmp_path)
    assert list(rows.columns) == ["image_path", "score", "threshold", "label", "normalized_score", "p_value"]
    assert list(rows["image_path"]) == [f"{folder}/cable/{i}.png" for folder in "ab" for i in range(2)]
    assert list(rows["score"]) == pytest.approx([0.1, 0.4, 0.2, 0.9])
    assert list(rows["threshold"]) == pytest.approx([0.3] * 4)
    assert list(rows["label"]) == ["normal", "anomalous", "normal", "anomalous"]
    assert list(rows["normalized_score"]) == pytest.approx([0.1 / 0.6, 1 - 0.6 / 1.4, 0.2 / 0.6, 1 - 0.1 / 1.4])
    assert str(tmp_path / "predictions.csv") in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_without_a_threshold_it_is_one_half(trainer_with: TrainerWith, tmp_path: Path) -> None:
    post_processor = MonotonePostProcessor()
    rows = predicted(trainer_with(PredictionWriter(), post_processor), post_processor, tmp_path)
    assert set(rows["threshold"]) == {0.5}
    assert list(rows["label"]) == ["normal"] * 3 + ["anomalous"]


def test_without_a_post_processor_scores_are_written_alone(trainer_with: TrainerWith, tmp_path: Path) -> None:
    rows = predicted(trainer_with(PredictionWriter()), None, tmp_path)
    assert list(rows["score"]) == pytest.approx([0.1, 0.4, 0.2, 0.9])
    assert rows[["threshold", "label", "normalized_score", "p_value"]].isna().all(axis=None)


@pytest.mark.parametrize("exception", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_interrupted_run_keeps_what_was_predicted(
    trainer_with: TrainerWith, tmp_path: Path, exception: BaseException
) -> None:
    with pytest.raises((RuntimeError, SystemExit)):
        predicted(trainer_with(PredictionWriter(), StopsAt(1, exception)), MonotonePostProcessor(), tmp_path)
    assert list(pd.read_csv(tmp_path / "predictions.csv")["score"]) == pytest.approx([0.1, 0.4])
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_run_that_predicts_nothing_leaves_the_earlier_file(trainer_with: TrainerWith, tmp_path: Path) -> None:
    predicted(trainer_with(PredictionWriter()), None, tmp_path)
    with pytest.raises(RuntimeError):
        predicted(trainer_with(PredictionWriter(), StopsAt(0, RuntimeError("broken"))), None, tmp_path)
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_path_that_is_no_utf_8_is_written_out(trainer_with: TrainerWith, tmp_path: Path) -> None:
    batch = scored_batch([0.1], None, folder="=caf\udce9")
    trainer_with(PredictionWriter()).predict(Passing(), datamodule=Scored([batch]))
    assert pd.read_csv(tmp_path / "predictions.csv")["image_path"].tolist() == ["'=caf\\udce9/cable/0.png"]
