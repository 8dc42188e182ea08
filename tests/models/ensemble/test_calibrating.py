"""Thresholds of an ensemble by normal images: from Python, by the command, and in its checkpoint."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from anomalib_zsad import AFClip, Ensemble, calibrate
from anomalib_zsad.cli import main
from tests.support.contract import engine_in, save_checkpoint
from tests.support.small_clip import IMAGE_SIZE
from tests.support.trees import noise_images


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_images(tmp_path_factory.mktemp("good"), 9)


def ensemble_of(clip: Path, **of_second) -> Ensemble:
    """Two members, and a scale as validation data would give it."""
    members = [AFClip(pretrained=clip, image_size=IMAGE_SIZE, feature_layers=[4], scales=[1])]
    members.append(AFClip(pretrained=clip, image_size=42, feature_layers=[3], scales=[1], **of_second))
    for member in members:
        member.trained_on = ["VisA/candle"]
    ensemble = Ensemble(members)
    ensemble.model.fit(torch.tensor([[[4.0, 2.0, 1.01]] * 2] * 2))  # mean 0.5, deviation 0.05
    return ensemble


def test_it_sets_the_thresholds_of_the_joined_scores_and_travels(small_clip, good, tmp_path):
    ensemble = ensemble_of(small_clip)
    calibration = calibrate(ensemble, good, false_alarms=0.2)
    assert len(set(calibration.image_scores)) == 9
    checkpoint = save_checkpoint(ensemble, tmp_path / "calibrated.ckpt")
    engine = engine_in(tmp_path / "run")
    engine.predict(Ensemble(pretrained=small_clip), data_path=good, ckpt_path=checkpoint)
    (file,) = (tmp_path / "run").rglob("predictions.csv")
    rows = pd.read_csv(file)
    assert sorted(rows["score"]) == pytest.approx(calibration.image_scores, abs=1e-6)
    assert (rows["label"] == "anomalous").sum() == 1  # above the 8th of 9: ceil(10 x 0.8)
    assert sorted(rows["p_value"]) == pytest.approx([(i + 2) / 10 for i in range(9)])


def test_the_command_does_the_same(small_clip, good, tmp_path, capsys):
    ensemble, out = ensemble_of(small_clip), tmp_path / "calibrated.ckpt"
    checkpoint = save_checkpoint(ensemble, tmp_path / "ensemble.ckpt")
    words = ["calibrate", "--model", "anomalib_zsad.Ensemble", "--ckpt_path", str(checkpoint), "--normal", str(good)]
    words += ["--false_alarms", "0.2", "--out", str(out), "--", "--model.pretrained", str(small_clip)]
    assert main(words) == 0
    assert "calibrated on 9 normal images" in capsys.readouterr().out
    expected = calibrate(ensemble, good, false_alarms=0.2)
    found = Ensemble.load_from_checkpoint(out, pretrained=str(small_clip)).post_processor.calibration
    assert found.image_scores == pytest.approx(expected.image_scores)
    assert found.false_alarms == 0.2


def test_references_of_a_member_are_left_out(small_clip, good):
    ensemble = ensemble_of(small_clip, reference=[good / "00.png", good / "01.png"])
    assert len(calibrate(ensemble, good, false_alarms=0.2).image_scores) == 7
