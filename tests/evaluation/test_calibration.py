from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor, take_thresholds, thresholds_of
from tests.support.scored_batches import scored_batch

SCORES = [0.05 * i for i in range(1, 20)]  # 0.05 to 0.95


def calibration(false_alarms: float = 0.1) -> Calibration:
    return Calibration.of_scores(SCORES, [score / 2 for score in SCORES], false_alarms, source="parts")


def calibrated(false_alarms: float = 0.1) -> MonotonePostProcessor:
    post_processor = MonotonePostProcessor()
    post_processor.calibrate(calibration(false_alarms))
    return post_processor


def test_decisions_and_p_values_are_those_of_the_calibration() -> None:
    post_processor = calibrated()
    batch = scored_batch([0.91, 0.89, 0.5], None, torch.full((3, 4, 4), 0.46).numpy())
    post_processor.post_process_batch(batch)
    assert batch.pred_label.tolist() == [True, False, False]  # the threshold is the 18th of 19: 0.9
    assert batch.pred_mask.all()  # and 0.45
    assert batch.p_value.tolist() == pytest.approx([2 / 20, 3 / 20, 11 / 20])


def test_a_fixed_threshold_stays_and_p_values_are_still_given() -> None:
    post_processor = MonotonePostProcessor()
    post_processor.fix_thresholds(image=0.2)
    post_processor.calibrate(calibration())
    assert float(post_processor.raw_threshold("image")) == pytest.approx(0.2)
    assert float(post_processor.raw_threshold("pixel")) == pytest.approx(0.45)


def test_new_thresholds_and_training_end_a_calibration(caplog: pytest.LogCaptureFixture) -> None:
    post_processor: Any = calibrated()
    post_processor.on_validation_epoch_end(None, None)
    assert post_processor.calibration is None
    post_processor = calibrated()
    post_processor.on_train_start(None, None)
    assert post_processor.calibration is None
    assert "calibrate again" in caplog.text


def test_it_travels_as_plain_data() -> None:
    other = MonotonePostProcessor()
    take_thresholds(other, thresholds_of(calibrated()))
    assert other.calibration == calibration()
    assert float(other.raw_threshold("image")) == pytest.approx(0.9)
    take_thresholds(other, thresholds_of(MonotonePostProcessor()))
    assert other.calibration is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_scores": [0.1, 1.2]}, "image_scores: .*raw scores in"),
        ({"map_maxima": []}, "map_maxima: .*at least 1 item"),
        ({"image_scores": ["a"]}, r"image_scores.0: .*valid number"),
        ({"false_alarms": 0}, "false_alarms: .*greater than 0"),
        ({"more": 1}, "more: .*not permitted"),
    ],
)
def test_a_damaged_entry_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"calibration is damaged: {message}"):
        Calibration.of_record({**calibration().to_record(), **change})


@given(st.lists(st.floats(0, 1), min_size=9, max_size=40))
def test_in_single_precision_no_score_of_the_calibration_beyond_the_promise_is_an_alarm(values: list[float]) -> None:
    """Thresholds are kept in 32 bits, as scores are: rounding must not let the score at the threshold pass it."""
    scores = torch.tensor(values)
    post_processor = MonotonePostProcessor()
    post_processor.calibrate(Calibration.of_scores(scores.tolist(), scores.tolist(), 0.1, source="parts"))
    batch = scored_batch(scores.tolist(), None)
    batch.pred_score = scores.clone()
    post_processor.post_process_batch(batch)
    assert batch.pred_label.sum() <= (len(values) + 1) * 0.1
    assert (batch.p_value[batch.pred_label] <= 0.1 + 1e-12).all()
    assert batch.pred_label[scores > post_processor.raw_threshold("image") + 1e-6].all()
