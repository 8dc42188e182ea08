"""The short call: the scores of the engine, for whatever holds an image."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.post_processing import PostProcessor
from PIL import Image

from anomalib_zsad import AFClip, calibrate
from anomalib_zsad.data.reading import read_image
from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE


def build(clip: Path, **arguments: Any) -> AFClip:
    model = AFClip(pretrained=clip, image_size=IMAGE_SIZE, scales=[1], feature_layers=[2, 4], **arguments)
    model.trained_on = ["VisA/candle"]
    return model


@pytest.fixture(scope="module")
def model(small_clip: Path) -> AFClip:
    return build(small_clip, image_threshold=0.9, pixel_threshold=0.95)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes and bit depths."""
    folder, generator = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for number, size in enumerate([(90, 120), (90, 120), (60, 40), (20, 31), (90, 120)]):
        Image.fromarray(generator.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"{number}.png")
    Image.fromarray(generator.integers(0, 65535, (50, 70)).astype(np.uint16)).save(folder / "5.png")
    Image.open(folder / "0.png").convert("P").save(folder / "6.png")
    return folder


def test_scores_maps_and_decisions_are_those_of_the_engine(model, folder, tmp_path):
    predicted = engine_in(tmp_path).predict(model, data_path=folder)
    found = model.detect(folder)
    assert [each.path for each in found] == [path for batch in predicted for path in batch.image_path]
    expected = torch.cat([batch.pred_score for batch in predicted])
    torch.testing.assert_close(torch.tensor([each.score for each in found]), expected, atol=1e-6, rtol=0)
    labels = [("normal", "anomalous")[int(label)] for batch in predicted for label in batch.pred_label]
    assert [each.label for each in found] == labels
    maps = [each.squeeze() for batch in predicted for each in batch.anomaly_map]
    torch.testing.assert_close(torch.stack([each._map for each in found]), torch.stack(maps), atol=1e-6, rtol=0)
    assert [each.anomaly_map.shape for each in found] == [read_image(each.path).shape[1:] for each in found]
    assert {(each.threshold, round(each.raw_threshold, 6)) for each in found} == {(0.5, 0.9)}
    rows = next(tmp_path.rglob("predictions.csv")).read_text().splitlines()[1:]
    np.testing.assert_allclose(
        [each.raw_score for each in found], [float(row.split(",")[1]) for row in rows], atol=1e-6
    )


def test_an_image_scores_alike_however_it_is_given(model, folder):
    path = folder / "0.png"
    pixels = np.array(Image.open(path))
    forms = [str(path), Image.open(path), pixels, pixels / 255, torch.from_numpy(pixels).permute(2, 0, 1)]
    alone = [model.detect(form) for form in forms]
    together = [*model.detect(forms, batch_size=2), *model.detect(pixels[None]), *model.detect([path])]
    scores = [each.raw_score for each in (*alone, *together)]
    np.testing.assert_allclose(scores, scores[0], atol=1e-6)
    assert [each.path for each in alone] == [str(path), None, None, None, None]
    np.testing.assert_array_equal(alone[2].image, alone[0].image)


def test_a_result_keeps_the_image_that_was_scored(model):
    frame = np.zeros((20, 30, 3), np.uint8)
    found = model.detect(frame)
    frame[:] = 255  # as cameras fill their buffers again
    assert found.image.max() == 0


def test_the_model_is_left_as_it_was(model, folder, tmp_path):
    engine = engine_in(tmp_path)
    engine.predict(model, data_path=folder / "0.png")
    model.train()
    modes = [module.training for module in model.modules()]
    streamed = model.detect([folder / "0.png", folder / "1.png"], batch_size=1, stream=True)
    next(streamed)
    assert [module.training for module in model.modules()] == modes
    assert not torch.is_inference_mode_enabled()
    assert model.trainer is engine.trainer
    assert model.device == torch.device("cpu")
    streamed.close()
    assert not any(model.detect(folder / "0.png")._map.requires_grad for _ in range(1))


def test_a_stream_reads_no_further_than_the_next_batch(model, folder, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "anomalib_zsad.data.given_images.read_image", lambda path: opened.append(path) or read_image(path)
    )
    streamed = model.detect(folder, batch_size=2, stream=True)
    assert opened == []
    next(streamed)
    assert len(opened) == 4
    assert len([*streamed]) == 6
    assert len(opened) == 7


def test_a_damaged_file_does_not_lose_the_others(model, folder, tmp_path, caplog):
    for number in (0, 2):
        (tmp_path / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    (tmp_path / "1.png").write_bytes(b"no image")
    found = model.detect(tmp_path)
    assert [each.label == "unreadable" for each in found] == [False, True, False]
    assert found[0].raw_score == pytest.approx(model.detect(folder / "0.png").raw_score, abs=1e-6)
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith(f"Not scored: {tmp_path / '1.png'} cannot be read")
    with pytest.raises(OSError, match=r"1\.png cannot be read"):
        model.detect(tmp_path / "1.png")
    assert model.detect([tmp_path / "1.png"])[0].error == found[1].error


def test_p_values_and_drift_of_a_calibrated_model(small_clip, folder, caplog):
    calibrated = build(small_clip)
    calibration = calibrate(calibrated, folder, false_alarms=0.2)
    found = calibrated.detect(folder)
    expected = calibration.p_values(torch.tensor([each.raw_score for each in found]))
    assert [each.p_value for each in found] == pytest.approx(expected.tolist())
    assert f"p = {found[0].p_value:.3g}" in repr(found[0])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    calibrated.detect([np.zeros((8, 8))] * 100, batch_size=50, progress=False)
    assert any("do not score like the calibration" in record.getMessage() for record in caplog.records)


def test_other_post_processors(small_clip, folder):
    raw = build(small_clip, post_processor=False).detect(folder / "0.png")
    assert (raw.threshold, raw.label, raw.mask, raw.score) == (None, None, None, raw.raw_score)
    of_anomalib = build(small_clip, post_processor=PostProcessor()).detect(folder / "0.png")
    assert (of_anomalib.threshold, of_anomalib.raw_threshold) == (0.5, None)
    assert of_anomalib.label == "anomalous"


def test_references_of_the_model_are_compared_with(small_clip, folder):
    few = build(small_clip, reference=folder / "0.png")
    same, other = few.detect([folder / "0.png", folder / "3.png"])
    assert same.raw_score < other.raw_score
    assert few.memory_of is not None


def test_progress_is_shown_for_several_batches_and_on_terminals_alone(model, folder, capsys, monkeypatch):
    model.detect(folder, batch_size=2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    model.detect(folder, batch_size=2, progress=False)
    model.detect(folder / "0.png")
    assert capsys.readouterr().err == ""
    model.detect(folder, batch_size=2)
    assert "Detecting" in capsys.readouterr().err


def test_what_cannot_work_is_refused_before_anything_is_scored(small_clip, model, folder):
    with pytest.raises(ValueError, match="holds no trained weights"):
        AFClip(pretrained=small_clip, image_size=IMAGE_SIZE).detect(folder, stream=True)
    with pytest.raises(ValueError, match=r"batch_size must be an integer in \[1, .*, got 0"):
        model.detect(folder, batch_size=0)
    with pytest.raises(ValueError, match="device: expected 'auto' or a device of this machine, got 'nowhere'"):
        model.detect(folder, device="nowhere")
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        model.detect([folder / "0.png", folder / "gone.png"])


@pytest.mark.gpu
def test_it_computes_on_the_accelerator_and_the_model_returns(model, folder):
    on_gpu, on_cpu = model.detect(folder), model.detect(folder, device="cpu")
    assert model.device == torch.device("cpu")
    np.testing.assert_allclose([each.score for each in on_gpu], [each.score for each in on_cpu], atol=1e-3)
