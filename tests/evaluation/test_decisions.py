from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anomalib.metrics import F1Score
from anomalib.post_processing import PostProcessor
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from sklearn.metrics import precision_recall_fscore_support

from anomalib_zsad.evaluation.decisions import DecisionCounts
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.table import AT_THRESHOLD
from tests.support.scored_batches import Passing, Scored, scored_batch

TrainerWith = Callable[..., Trainer]
SCORES, LABELS = [0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1]


def measured(
    trainer_with: TrainerWith, evaluator: ZeroShotEvaluator, post_processor: PostProcessor
) -> dict[str, float]:
    masks = np.zeros((4, 8, 8), bool)
    masks[1::2, :4] = True
    maps = np.full((4, 8, 8), 0.2, np.float32)
    maps[1, :2] = maps[2, :1] = 0.8
    batch = scored_batch(SCORES, LABELS, maps, masks)
    trainer = trainer_with(evaluator, post_processor)
    (logged,) = trainer.test(Passing(evaluator, post_processor), datamodule=Scored([batch]), verbose=False)
    return logged


def fitted(image: float, pixel: float, sensitivity: float = 0.5) -> MonotonePostProcessor:
    post_processor = MonotonePostProcessor(image_sensitivity=sensitivity)
    post_processor._image_threshold.fill_(image)
    post_processor._pixel_threshold.fill_(pixel)
    return post_processor


def test_the_table_has_what_a_user_gets_at_the_fitted_threshold(trainer_with: TrainerWith) -> None:
    logged = measured(trainer_with, ZeroShotEvaluator(), fitted(0.3, 0.5))
    # Called anomalous: 0.4, 0.6, 0.9, of which two are. Pixels: 24, of which 16 of the 64 anomalous ones.
    assert logged["image_Precision"] == pytest.approx(2 / 3)
    assert logged["image_Recall"] == 1
    assert logged["image_F1Score"] == pytest.approx(0.8)
    assert logged["pixel_Precision"] == pytest.approx(16 / 24)
    assert logged["pixel_Recall"] == pytest.approx(16 / 64)
    assert logged["pixel_F1Score"] == pytest.approx(2 * 16 / (24 + 64))
    assert logged["image_F1Max"] == pytest.approx(0.8)


def test_the_sensitivity_moves_the_decisions_and_no_ranking(trainer_with: TrainerWith) -> None:
    bold, shy = (measured(trainer_with, ZeroShotEvaluator(), fitted(0.5, 0.5, each)) for each in (0.95, 0.05))
    assert (bold["image_Recall"], shy["image_Recall"]) == (1, 0)
    assert shy["image_Precision"] == 0  # nothing was called anomalous
    assert bold["image_AUROC"] == shy["image_AUROC"]


def test_without_thresholds_there_are_no_decisions(trainer_with: TrainerWith) -> None:
    logged = measured(trainer_with, ZeroShotEvaluator(), MonotonePostProcessor(enable_thresholding=False))
    assert not set(logged) & set(AT_THRESHOLD)


def test_anomalibs_metrics_of_labels_are_those_of_the_table(trainer_with: TrainerWith) -> None:
    metric = F1Score(fields=["pred_label", "gt_label"])
    evaluator = ZeroShotEvaluator(test_metrics=metric)
    logged = measured(trainer_with, evaluator, fitted(0.3, 0.5))
    assert isinstance(evaluator.table, pd.DataFrame)
    assert logged[metric.name] == pytest.approx(logged["image_F1Score"]) == pytest.approx(0.8)


def test_validation_metrics_of_labels_are_refused_when_they_are_given() -> None:
    with pytest.raises(ValueError, match=r"val_metrics: expected .* got F1Score of pred_label: .* test_metrics"):
        ZeroShotEvaluator(val_metrics=F1Score(fields=["pred_label", "gt_label"]))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_counts_are_those_of_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    decided, truth = np.array(pairs).T
    counts = DecisionCounts()
    for part in np.array_split(np.arange(len(pairs)), 2):
        counts.add(decided[part], truth[part])
    precision, recall, f1, _ = precision_recall_fscore_support(truth, decided, average="binary", zero_division=0)
    expected = {"image_F1Score": f1, "image_Precision": precision, "image_Recall": recall}
    assert counts.metrics("image") == pytest.approx(expected)
