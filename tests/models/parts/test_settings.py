"""A checkpoint brings its settings to a model that was built without them."""

import json
import logging
from pathlib import Path

import pytest
import torch
from anomalib.post_processing import PostProcessor

from anomalib_zsad.data import VisA
from anomalib_zsad.models import AFClip, KAnoClip
from anomalib_zsad.models.parts import settings
from anomalib_zsad.models.parts.adapter_file import load_adapter, save_adapter
from anomalib_zsad.models.parts.record import to_metadata
from tests.support.contract import engine_in, images, save_checkpoint
from tests.support.small_clip import IMAGE_SIZE


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
            {"prompt_length": 3, "class_name": "candle", "choices": {"deform_kernel": 3, "deform_stride": 2}},
            {"sigma": 1.0},
        ),
        (KAnoClip, {"sigma": 2.0, "choices": {"deform_stride": 2}}, {"choices": {"map_norm": "minmax"}}),
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
    assert all(f"{name}=" in said for name in settings.flat(own))
    hparams = settings.flat(model.hparams)
    assert {name: hparams[name] for name in settings.flat(own)} == settings.flat(own)

    caplog.clear()
    other = predicted_with(build(**chosen), checkpoint, visa_root, tmp_path / "other")
    assert not torch.equal(other.anomaly_map, expected.anomaly_map)
    ((name, value),) = settings.flat(chosen).items()
    (said,) = [each for each in caplog.messages if each.startswith("Used otherwise than the checkpoint was trained")]
    assert f"{name}={value!r} (not " in said


def test_loading_a_checkpoint_takes_what_is_given_even_a_default(small_clip, visa_root, tmp_path):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=1, scales=(1,))
    checkpoint = fitted(model, visa_root, tmp_path)
    assert AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip).hparams["scales"] == (1,)
    again = AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip, scales=(1, 3, 5)).eval()
    assert again.hparams["scales"] == (1, 3, 5)
    assert not torch.equal(again.model(images()).anomaly_map, model.eval().model(images()).anomaly_map)


def test_another_image_size_counts_instead_of_the_checkpoints(small_clip, tmp_path, caplog):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)
    model.trained_on = ["VisA/candle"]
    checkpoint = save_checkpoint(model, tmp_path / "a.ckpt")
    smaller = {"pretrained": small_clip, "image_size": 42}
    given = AFClip(**smaller)
    given.load_checkpoint(checkpoint)
    for again in (given, AFClip.load_from_checkpoint(checkpoint, **smaller)):
        assert again.pre_processor.transform(torch.rand(1, 3, 90, 80)).shape == (1, 3, 42, 42)
        assert again.model.encoder.clip.image_size == (42, 42)
    assert caplog.text.count(f"image_size=42 (not {IMAGE_SIZE})") == 2


def test_a_threshold_needs_a_post_processor_that_keeps_it(small_clip):
    with pytest.raises(ValueError, match="need the post-processor MonotonePostProcessor, got PostProcessor"):
        AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, image_threshold=0.3, post_processor=PostProcessor())


def test_a_list_and_a_tuple_are_the_same_setting():
    assert settings.chosen(AFClip, {"scales": [1, 3, 5], "states": ["a", "b"]}) == {"states": ["a", "b"]}


def test_files_of_version_0_1_are_read(small_clip, tmp_path):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, scales=(1,)).eval()
    model.trained_on, old = ["VisA/candle"], {"method": "AFClip", "trained_on": '["VisA/candle"]'}
    expected = model.model(images()).pred_score
    content = torch.load(save_checkpoint(model, tmp_path / "a.ckpt"), weights_only=True)
    record = content["anomalib_zsad"]
    content["anomalib_zsad"] = {name: record[name] for name in ("method", "backbone", "trained_on", "memory_of")}
    torch.save(content, tmp_path / "old.ckpt")
    loaded = AFClip.load_from_checkpoint(tmp_path / "old.ckpt", pretrained=small_clip).eval()
    assert torch.equal(loaded.model(images()).pred_score, expected)
    tensors = {name: each for name, each in model.model.named_parameters() if each.requires_grad}
    tensors["post_processor._image_threshold"] = torch.tensor(0.3)
    save_adapter(tmp_path / "old.safetensors", tensors, {**old, "backbone": json.dumps(record["backbone"])})
    given = {"pretrained": small_clip, "image_size": IMAGE_SIZE, "scales": (1,)}
    again = AFClip(**given, weights=tmp_path / "old.safetensors").eval()
    assert torch.equal(again.model(images()).pred_score, expected)
    assert again.post_processor.image_threshold == torch.tensor(0.3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {"scale": 1}}, "has settings that AFClip does not have: scale"),
        ({"settings": {"temperature": -1}}, "temperature must be a number in"),
        ({"settings": []}, r"its settings is \[\]"),
        ({"method": "Padim"}, "an adapter file of AFClip, got one of Padim"),
    ],
)
def test_records_that_lie_are_refused(small_clip, tmp_path, change, said):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)
    model.save_weights(tmp_path / "a.safetensors")
    tensors, metadata = load_adapter(tmp_path / "a.safetensors")
    record = {**json.loads(metadata["record"]), **change}
    save_adapter(tmp_path / "b.safetensors", tensors, to_metadata(record))
    with pytest.raises(ValueError, match=rf"b\.safetensors.*{said}"):
        AFClip(pretrained=small_clip, weights=tmp_path / "b.safetensors")


def test_a_file_of_class_names_is_not_needed_again(small_clip, tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("bottle: dark bottle")
    model = KAnoClip(pretrained=small_clip, image_size=IMAGE_SIZE, class_names=names)
    model.save_weights(tmp_path / "a.safetensors")
    names.unlink()
    again = KAnoClip(pretrained=small_clip, weights=tmp_path / "a.safetensors")
    assert again.class_names.given == {"bottle": "dark bottle"}


def test_what_was_trained_on_is_noted_after_a_step_and_a_fit_without_one_is_refused(small_clip, visa_root, tmp_path):
    data = VisA(visa_root, ["candle"], val_ratio=0.3, num_workers=0)
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=1)
    engine = engine_in(tmp_path, limit_train_batches=1)
    engine.fit(model, datamodule=data)
    assert model.trained_on == ["VisA/candle"]
    other = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=1)
    with pytest.raises(ValueError, match=r"at least one step, got none: this Engine has spent its 1 epochs"):
        engine.fit(other, datamodule=data)
    assert other.trained_on == []
    with pytest.raises(ValueError, match=r"model\.ckpt has all of the 1 epochs already: give more"):
        engine_in(tmp_path).fit(other, datamodule=data, ckpt_path=engine.best_model_path)
    with pytest.raises(ValueError, match=r"max_steps=0 leave none: give at least 1"):
        engine_in(tmp_path, max_steps=0).fit(other, datamodule=data)
