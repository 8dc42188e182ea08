import json
from pathlib import Path

import pytest
import torch

from anomalib_zsad import AFClip
from anomalib_zsad.cli import main
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.line.capture import Video
from tests.line.test_capture import film
from tests.support.contract import save_checkpoint
from tests.support.small_clip import IMAGE_SIZE


@pytest.fixture(scope="module")
def model(small_clip):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, feature_layers=[4], scales=[1]).eval()
    model.trained_on = ["VisA/candle"]
    model.post_processor.calibrate(Calibration.of_scores([0.4] * 19, [0.4] * 19, 0.1, "drawn"))
    return model


@pytest.fixture(scope="module")
def files(model, tmp_path_factory) -> Path:
    """A checkpoint, an adapter file and a video."""
    folder = tmp_path_factory.mktemp("files")
    save_checkpoint(model, folder / "model.ckpt")
    model.save_weights(folder / "model.safetensors")
    film(folder / "clip.avi", frames=3)
    return folder


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_watch_scores_as_the_model_does(name, files, model, small_clip, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["watch", "--model", files / name, "--video", files / "clip.avi", "--out", out, "--device", "cpu"]
    assert main([*map(str, words), "--", f"--model.pretrained={small_clip}"]) == 0
    assert f"3 images scored; all results: {out / 'results.csv'}" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    with torch.no_grad():
        for row, arrival in zip(rows, Video(files / "clip.avi").arrivals(_Never()), strict=True):
            expected = model(arrival.pixels[None])
            assert row["score"] == pytest.approx(expected.pred_score.item(), abs=1e-6)
            assert row["p_value"] in {1 / 20, 1.0}
    assert name in (out / "index.html").read_text()


class _Never:
    def is_set(self):
        return False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--video": None}, "expected one of --folder, --video and --camera"),
        ({"--folder": "."}, "expected one of --folder, --video and --camera"),
        ({"--video": None, "--folder": "."}, "--out: expected a folder outside of "),
        ({"--video": None, "--folder": "none"}, "none: expected a folder to watch"),
        ({"--video": "none.mp4"}, "There is no video none.mp4."),
        ({"--interval": "-1"}, "expected seconds of at least 0"),
        ({"--model": "none.ckpt"}, "none.ckpt: expected a checkpoint, found no such file"),
        ({"--model": "none.onnx"}, "expected no arguments of a model with an exported one"),
        ({"--model": "model.txt"}, "--model: expected a file with the suffix .onnx, .xml, .pt, .ckpt, .safetensors"),
    ],
)
def test_what_is_wrong_is_one_line(changes, message, files, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = {"--model": files / "model.ckpt", "--video": files / "clip.avi", "--out": "out", **changes}
    words = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    assert main(["watch", *words, "--", "--model.image_size=56"]) == 2
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_serve_listens_with_the_limits_that_it_was_given(files, small_clip, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
    testclient = pytest.importorskip("fastapi.testclient")
    served = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **where: served.append((app, where)))
    words = ["serve", "--model", str(files / "model.ckpt"), "--port", "8123", "--max_megabytes", "1"]
    assert main([*words, "--", f"--model.pretrained={small_clip}"]) == 0
    ((app, where),) = served
    assert where == {"host": "127.0.0.1", "port": 8123}
    with testclient.TestClient(app) as client:
        assert client.get("/health").json()["model"] == "model.ckpt"
        assert client.post("/detect", content=bytes(10**6 + 1)).status_code == 413


def test_serve_checks_its_limits(files, capsys):
    assert main(["serve", "--model", str(files / "model.ckpt"), "--max_waiting", "0"]) == 2
    assert "of at least 1" in capsys.readouterr().err
