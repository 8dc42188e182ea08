from pathlib import Path

import pytest

from anomalib_zsad import AFClip
from anomalib_zsad.cli import main
from tests.support.contract import save_checkpoint
from tests.support.small_clip import IMAGE_SIZE
from tests.support.trees import noise_images


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_images(tmp_path_factory.mktemp("good"), 10)


@pytest.fixture(scope="module")
def checkpoint(small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, scales=(1,))
    model.trained_on = ["VisA/candle"]
    return save_checkpoint(model, tmp_path_factory.mktemp("trained") / "model.ckpt")


@pytest.mark.parametrize("name", ["calibrated.ckpt", "calibrated.safetensors"])
def test_calibrate_writes_a_calibrated_model(name, checkpoint, good, small_clip, tmp_path, capsys):
    out = tmp_path / name
    words = ["calibrate", "--model", "anomalib_zsad.AFClip", "--ckpt_path", checkpoint, "--normal", good]
    words += ["--false_alarms", "0.1", "--out", out, "--", "--model.pretrained", small_clip]
    assert main(list(map(str, words))) == 0
    said = capsys.readouterr().out
    assert "10 normal images" in said
    assert f"written to {out}" in said
    if name.endswith(".ckpt"):
        model = AFClip.load_from_checkpoint(out, pretrained=str(small_clip))
    else:
        model = AFClip(pretrained=small_clip, weights=out)
    assert model.hparams["scales"] == (1,)
    assert model.post_processor.calibration.false_alarms == 0.1
    assert sorted(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--out": "a.txt"}, "--out: expected a file with the suffix .ckpt or .safetensors, got a.txt"),
        ({"--false_alarms": "0.01"}, "expected at least 99 normal images, got 10; with these, 0.09091 can be promised"),
        ({"--normal": "nowhere"}, "There is no file or folder nowhere"),
        ({"--ckpt_path": "none.ckpt"}, "none.ckpt: expected a checkpoint, found no such file"),
        ({"--model": "Ganomaly", "--ckpt_path": None}, "--model: expected a model of anomalib_zsad, got Ganomaly"),
    ],
)
def test_what_is_wrong_is_one_line(changes, message, checkpoint, good, small_clip, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = {"--model": "anomalib_zsad.AFClip", "--ckpt_path": checkpoint, "--normal": good, "--false_alarms": "0.1"}
    words = [word for pair in {**options, **changes}.items() if pair[1] is not None for word in map(str, pair)]
    own = [] if changes.get("--model") else ["--", "--model.pretrained", str(small_clip)]
    assert main(["calibrate", *words, *own]) == 2
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("*.ckpt"))
