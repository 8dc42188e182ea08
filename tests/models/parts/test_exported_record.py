"""What graphs say of the model that they were exported of."""

from pathlib import Path

import pytest

from anomalib_zsad import AFClip, Ensemble
from anomalib_zsad._version import __version__
from anomalib_zsad.models.parts.exported_record import exported_record
from tests.support.small_clip import IMAGE_SIZE


@pytest.fixture(scope="module")
def model(small_clip: Path) -> AFClip:
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, feature_layers=[4], scales=[1]).eval()
    model.trained_on, model.thresholds_fitted_on = ["VisA/candle"], ["VisA"]
    model.post_processor._image_threshold.fill_(0.4)
    return model


def test_it_names_the_model_without_folders(model, small_clip):
    record = exported_record(model)
    assert (record.method, record.version, record.trained_on) == ("AFClip", __version__, ["VisA/candle"])
    assert record.settings["pretrained"] == small_clip.name
    assert record.settings["scales"] == [1]
    assert record.thresholds["fitted_on"] == ["VisA"]
    assert record.thresholds["image"] == pytest.approx(0.4)


def test_without_a_calibration_and_of_an_ensemble(small_clip):
    member = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, post_processor=False)
    assert exported_record(member).calibration is None
    assert exported_record(member).thresholds == {"image": None, "pixel": None, "fitted_on": []}
    assert exported_record(Ensemble([member, member])).settings["models"] == ["AFClip", "AFClip"]
