"""A checkpoint brings its settings to a model that was built without them."""

import logging
from pathlib import Path

import pytest
import torch

from anomalib_zsad.data import VisA
from anomalib_zsad.models import AFClip, KAnoClip, settings
from tests.contract import engine_in, images
from tests.small_clip import IMAGE_SIZE


def fitted(model, visa_root, folder):
    data = VisA(visa_root, ["candle"], val_ratio=0.3, num_workers=0)
    engine = engine_in(folder, limit_train_batches=1)
    engine.fit(model, datamodule=data)
    return Path(engine.best_model_path)


def predicted_with(model, checkpoint, visa_root, folder):
    picture = next((visa_root / "candle" / "Data" / "Images" / "Anomaly").iterdir())
    (prediction,) = engine_in(folder).predict(model, data_path=picture, ckpt_path=checkpoint)
    return prediction


@pytest.mark.parametrize(
    ("kind", "own", "chosen"),
    [
        (AFClip, {"scales": (1,), "blur_sigma": 1.0}, {"blur_sigma": 2.0}),
        (AFClip, {"states": ("fine.", "broken.")}, {"scales": (1, 3)}),
        (
            KAnoClip,
            {"prompt_length": 3, "class_name": "candle", "deform_kernel": 3, "deform_stride": 2},
            {"sigma": 1.0},
        ),
    ],
)
def test_predicting_has_the_settings_of_the_training_but_for_those_given(
    kind, own, chosen, small_clip, visa_root, tmp_path, caplog
):
    def build(**arguments):
        return kind(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=1, **arguments)

    checkpoint = fitted(build(**own), visa_root, tmp_path / "fit")
    expected = predicted_with(build(**own), checkpoint, visa_root, tmp_path / "same")
    model = build()
    with caplog.at_level(logging.INFO, "anomalib_zsad"):
        got = predicted_with(model, checkpoint, visa_root, tmp_path / "default")
    assert torch.equal(got.pred_score, expected.pred_score)
    assert torch.equal(got.anomaly_map, expected.anomaly_map)
    (said,) = [each for each in caplog.messages if each.startswith("Settings of the checkpoint are used")]
    assert all(f"{name}=" in said for name in own)
    assert {name: model.hparams[name] for name in own} == own

    caplog.clear()
    other = predicted_with(build(**chosen), checkpoint, visa_root, tmp_path / "other")
    assert not torch.equal(other.anomaly_map, expected.anomaly_map)
    ((name, value),) = chosen.items()
    (said,) = [each for each in caplog.messages if each.startswith("Used otherwise than the checkpoint was trained")]
    assert f"{name}={value!r} (not " in said


def test_loading_a_checkpoint_takes_what_is_given_even_a_default(small_clip, visa_root, tmp_path):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=1, scales=(1,))
    checkpoint = fitted(model, visa_root, tmp_path)
    assert AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip).hparams["scales"] == (1,)
    again = AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip, scales=(1, 3, 5)).eval()
    assert again.hparams["scales"] == (1, 3, 5)
    assert not torch.equal(again.model(images()).anomaly_map, model.eval().model(images()).anomaly_map)


def test_a_list_and_a_tuple_are_the_same_setting():
    assert settings.chosen(AFClip, {"scales": [1, 3, 5], "states": ["a", "b"]}) == {"states": ["a", "b"]}
