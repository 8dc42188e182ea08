import logging
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import Trainer

from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.drift import DriftGuard, DriftWarning
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from tests.support.scored_batches import Passing, Scored, scored_batch


def calibration(scores: np.ndarray) -> Calibration:
    return Calibration.of_scores(scores, scores, 0.1, source="parts")


def test_while_nothing_changes_the_guard_speaks_as_rarely_as_it_promises() -> None:
    generator, lines = np.random.default_rng(0), 400
    spoke = 0
    for _ in range(lines):
        scores = generator.beta(2, 6, 300)
        guard = DriftGuard(calibration(scores[:100]), window=20, level=0.05)
        guard.add(scores[100:])
        spoke += guard.has_drifted
    assert spoke <= 0.05 * lines


@pytest.mark.parametrize("change", ["brighter", "darker", "half of all parts are defective"])
def test_a_change_is_found_within_two_windows(change: str) -> None:
    generator = np.random.default_rng(1)
    guard = DriftGuard(calibration(generator.beta(2, 6, 200)))
    assert not guard.add(generator.beta(2, 6, 300))
    new = generator.beta(2, 6, 200)
    new = {"brighter": new + 0.15, "darker": new * 0.6}.get(change, np.where(generator.random(200) < 0.5, 0.9, new))
    assert guard.add(new)
    assert guard.has_drifted


def test_few_defects_are_no_drift() -> None:
    generator = np.random.default_rng(2)
    guard = DriftGuard(calibration(generator.beta(2, 6, 200)))
    assert not guard.add(np.where(generator.random(1000) < 0.03, 0.95, generator.beta(2, 6, 1000)))


@pytest.mark.parametrize("is_calibrated", [True, False])
def test_predict_warns_once(
    is_calibrated: bool, trainer_with, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    generator = np.random.default_rng(3)
    post_processor = MonotonePostProcessor()
    if is_calibrated:
        post_processor.calibrate(calibration(generator.beta(2, 6, 100)))
    trainer: Trainer = trainer_with(DriftWarning(), post_processor)
    batches = [scored_batch(generator.uniform(0.5, 1, 50), None, folder=str(i)) for i in range(6)]
    with caplog.at_level(logging.WARNING, "anomalib_zsad"):
        trainer.predict(Passing(post_processor=post_processor), datamodule=Scored(batches))
    messages = [message for message in caplog.messages if "do not score like the calibration" in message]
    assert len(messages) == is_calibrated
    assert all("100 normal images of parts" in message for message in messages)
