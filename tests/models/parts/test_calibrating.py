"""Calibration of whole models: what it sets, what travels with the weights, and what predictions say."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from anomalib_zsad import AFClip, calibrate
from tests.support.contract import engine_in, save_checkpoint
from tests.support.small_clip import IMAGE_SIZE
from tests.support.trees import noise_images


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_images(tmp_path_factory.mktemp("good"), 12)


def build(clip: Path, **arguments) -> AFClip:
    model = AFClip(pretrained=clip, image_size=IMAGE_SIZE, **arguments)
    model.trained_on = ["VisA/candle"]
    return model


def predicted(model: AFClip, images: Path, folder: Path, checkpoint: Path | None = None) -> pd.DataFrame:
    engine_in(folder).predict(model, data_path=images, ckpt_path=checkpoint)
    (file,) = folder.rglob("predictions.csv")
    return pd.read_csv(file)


def test_predictions_of_the_calibration_images_keep_the_promise(small_clip, good, tmp_path):
    model = build(small_clip)
    calibration = calibrate(model, good, false_alarms=0.2)
    assert model.visualizer is not None
    rows = predicted(model, good, tmp_path)
    assert sorted(rows["score"]) == pytest.approx(calibration.image_scores)
    assert (rows["label"] == "anomalous").sum() == 1  # above the 11th of 12: ceil(13 x 0.8)
    assert sorted(rows["p_value"]) == pytest.approx([(i + 2) / 13 for i in range(12)])
    assert rows["threshold"].iloc[0] == pytest.approx(calibration.image_threshold)


def test_it_travels_with_checkpoint_and_adapter_file(small_clip, good, tmp_path):
    model = build(small_clip)
    calibration = calibrate(model, [good / f"{number:02d}.png" for number in range(9)], false_alarms=0.1)
    checkpoint = save_checkpoint(model, tmp_path / "calibrated.ckpt")
    model.save_weights(tmp_path / "calibrated.safetensors")
    for other in (
        AFClip.load_from_checkpoint(checkpoint, pretrained=str(small_clip)),
        AFClip(pretrained=small_clip, weights=tmp_path / "calibrated.safetensors"),
    ):
        assert other.post_processor.calibration == calibration
        assert float(other.post_processor.raw_threshold("image")) == pytest.approx(calibration.image_threshold)
    rows = predicted(build(small_clip), good, tmp_path / "run", checkpoint)
    assert rows["p_value"].between(0.1, 1).all()


def test_references_are_left_out_even_as_copies(small_clip, good, tmp_path):
    copies = tmp_path / "copies"
    shutil.copytree(good, copies)
    model = build(small_clip, reference=good, k_shot=3)
    calibration = calibrate(model, copies, false_alarms=0.1)
    assert len(calibration.image_scores) == 9
    with pytest.raises(ValueError, match=r"at least 9 normal images, got 8; with these, 0\.1111 can be promised"):
        calibrate(build(small_clip, reference=good, k_shot=4), copies, false_alarms=0.1)


def test_one_file_that_is_named_twice_counts_once(small_clip, good):
    with pytest.raises(ValueError, match="expected at least 19 normal images, got 12"):
        calibrate(build(small_clip), [good, good], false_alarms=0.05)


def test_a_model_that_is_not_trained_or_decides_otherwise(small_clip, good):
    with pytest.raises(ValueError, match="holds no trained weights"):
        calibrate(AFClip(pretrained=small_clip, image_size=IMAGE_SIZE), good, 0.1)
    with pytest.raises(ValueError, match="expected a model with a MonotonePostProcessor, got NoneType"):
        calibrate(build(small_clip, post_processor=False), good, 0.1)
