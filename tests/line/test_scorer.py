import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from PIL import Image

from anomalib_zsad import AFClip
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.line.scorer import Scorer, digest_of
from tests.line.brightness import CALIBRATION, brightness_graph
from tests.support.small_clip import IMAGE_SIZE

IMAGE = torch.rand(3, 60, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model(small_clip):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, feature_layers=[4], scales=[1]).eval()
    model.trained_on = ["VisA/candle"]
    with torch.no_grad():
        raw = model.model(model.pre_processor.transform(IMAGE[None]))
    around = np.linspace(-0.05, 0.05, 38)  # none of them is the score itself
    score, highest = raw.pred_score.item(), raw.anomaly_map.max().item()
    model.post_processor.calibrate(Calibration.of_scores(score + around, highest + around, 0.1, "drawn"))
    return model


@pytest.fixture(scope="module")
def of_model(model):
    return Scorer.of_model(model, "model.ckpt", "0" * 64, "cpu")(IMAGE)


def test_a_model_scores_as_it_predicts(model, of_model):
    with torch.no_grad():
        expected = model(IMAGE[None])
    assert of_model.score == pytest.approx(expected.pred_score.item(), abs=1e-6)
    assert of_model.label == "normal"
    assert of_model.p_value == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(of_model.anomaly_map, expected.anomaly_map[0, 0], atol=1e-6)
    np.testing.assert_array_equal(of_model.mask, expected.pred_mask[0, 0])


def test_a_file_of_torch_says_the_same(model, of_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    scored = Scorer.open(model.to_torch(tmp_path), "cpu")(IMAGE)
    assert scored.score == pytest.approx(of_model.score, abs=1e-5)
    assert (scored.label, scored.p_value) == (of_model.label, pytest.approx(of_model.p_value, abs=0.03))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A graph with the inputs, outputs and metadata of an exported one, whose score is the brightness."""
    return brightness_graph(tmp_path_factory.mktemp("graph") / "model.onnx")


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_graph_is_read_with_its_calibration(kind, graph, tmp_path):
    path = graph
    if kind == "openvino":
        path = tmp_path / "model.xml"
        openvino.save_model(openvino.convert_model(graph), path, compress_to_fp16=False)
    scorer = Scorer.open(path, "cpu")
    scored = scorer(IMAGE)
    assert scored.score == pytest.approx(IMAGE.mean().item(), abs=1e-6)
    assert scored.label == ("anomalous" if IMAGE.mean() > 0.5 else "normal")
    assert scored.p_value == CALIBRATION.p_values(torch.tensor([scored.score])).item()
    np.testing.assert_allclose(scored.anomaly_map, IMAGE.mean(0), atol=1e-6)
    np.testing.assert_array_equal(scored.mask, scored.anomaly_map > 0.5)
    assert scorer.calibration == CALIBRATION
    assert scorer.input_size is None


def test_the_script_of_the_documentation_says_the_same(graph, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "line.md").read_text(encoding="utf-8")
    (script,) = (block.split("\n```")[0] for block in text.split("```python\n") if "score.py" in block)
    Image.new("RGB", (50, 40), (204, 204, 204)).save(tmp_path / "part.png")
    monkeypatch.setattr(sys, "argv", ["score.py", str(graph), str(tmp_path / "part.png")])
    exec(compile(script, "docs/line.md", "exec"), {})
    assert capsys.readouterr().out == f"{tmp_path / 'part.png'} 0.8000 anomalous 0.0100\n"


def test_a_graph_of_one_size_is_known_as_such(tmp_path):
    assert Scorer.open(brightness_graph(tmp_path / "model.onnx", size=(60, 50))).input_size == (60, 50)


def test_a_graph_of_a_fixed_size_refuses_others():
    scorer = Scorer(lambda images: {}, "fixed", "0", input_size=(60, 50))
    with pytest.raises(ValueError, match="expected images of 50 x 60 pixels, as exported for, got 40 x 60"):
        scorer(IMAGE)


def test_scores_that_are_no_numbers_are_refused():
    found = {"pred_score": [float("nan")], "anomaly_map": np.zeros((1, 1, 4, 4))}
    with pytest.raises(ValueError, match="expected scores that are numbers"):
        Scorer(lambda images: found, "damaged", "0")(IMAGE)


def test_an_untrained_model_is_refused(small_clip):
    with pytest.raises(ValueError, match="holds no trained weights"):
        Scorer.of_model(AFClip(pretrained=small_clip, image_size=IMAGE_SIZE), "model", "0")


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt"])
def test_what_is_no_model_is_named(name, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="found no such file"):
        Scorer.open(tmp_path / name)
    (tmp_path / name).write_text("no model")
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    with pytest.raises(ValueError, match=rf"{name}: expected an exported model, but it cannot be read"):
        Scorer.open(tmp_path / name)


def test_a_pickle_is_not_read_unasked(tmp_path):
    (tmp_path / "model.pt").write_text("a pickle")
    with pytest.raises(ValueError, match="TRUST_REMOTE_CODE"):
        Scorer.open(tmp_path / "model.pt")


def test_a_device_that_is_not_there_is_refused(graph, model):
    with pytest.raises(ValueError, match=r"device: expected auto, .*cpu.*, got 'abacus'"):
        Scorer.open(graph, "abacus")
    with pytest.raises(ValueError, match="device: expected 'auto' or a device of this machine, got 'abacus'"):
        Scorer.of_model(model, "model", "0", "abacus")


def test_the_digest_is_of_all_that_scores_depend_on(tmp_path: Path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    digests = {digest_of([first]), digest_of([second]), digest_of([first, second]), digest_of([first], "--x")}
    assert len(digests) == 4
