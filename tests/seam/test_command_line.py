"""A checkpoint named on anomalib's command line decides what is built."""

import logging
from pathlib import Path

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI

from anomalib_zsad.models import AFClip
from tests.support.contract import save_checkpoint

SETTINGS = {"feature_layers": [1], "scales": [1], "blur_sigma": 1.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One over another backbone than the default, whose weights are not at hand."""
    model = AFClip("zsad-tiny", **SETTINGS)
    model.trained_on = ["VisA/candle"]
    return save_checkpoint(model, tmp_path_factory.mktemp("tiny") / "tiny.ckpt")


def command(verb: str, checkpoint: Path, folder: Path, *more: str) -> AnomalibCLI:
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", f"--default_root_dir={folder}"]
    return AnomalibCLI([verb, "--model=anomalib_zsad.AFClip", f"--ckpt_path={checkpoint}", *more, *quiet])


def test_predicting_takes_backbone_and_settings_from_the_checkpoint(checkpoint, mvtec_root, tmp_path, caplog):
    picture = next((mvtec_root / "bottle" / "test" / "good").iterdir())
    with caplog.at_level(logging.INFO, "anomalib_zsad"):
        run = command("predict", checkpoint, tmp_path, f"--data={picture}", "--model.scales=[1,3]")
    assert {name: run.model.hparams[name] for name in SETTINGS} == {**SETTINGS, "scales": [1, 3]}
    assert run.model.hparams["backbone"] == "zsad-tiny"
    (warning,) = [each for each in caplog.messages if "otherwise than the checkpoint was trained" in each]
    assert "scales=[1, 3] (not [1])" in warning
    assert len(next(tmp_path.rglob("predictions.csv")).read_text().splitlines()) == 2


def test_what_is_said_at_export_is_in_the_exported_model(checkpoint, tmp_path):
    ours = ["--model.image_threshold=0.25", "--model.post_processor.image_sensitivity=0.95"]
    command("export", checkpoint, tmp_path, "--export_type=torch", f"--export_root={tmp_path}", *ours)
    model = torch.load(next(tmp_path.rglob("model.pt")), weights_only=False)["model"]
    assert {name: model.hparams[name] for name in SETTINGS} == SETTINGS
    assert model.post_processor.image_threshold == 0.25
    assert model.post_processor.image_sensitivity == 0.95


def test_a_file_that_a_checkpoint_names_is_read_only_if_it_is_named(small_clip, mvtec_root, tmp_path):
    model = AFClip(pretrained=small_clip, image_size=56)
    model.trained_on = ["VisA/candle"]
    checkpoint = save_checkpoint(model, tmp_path / "a.ckpt")
    picture = next((mvtec_root / "bottle" / "test" / "good").iterdir())
    with pytest.raises(
        ValueError, match=r"clip\.pt, a file that is read only if you name it: pass --model\.pretrained"
    ):
        command("predict", checkpoint, tmp_path, f"--data={picture}")
    run = command("predict", checkpoint, tmp_path, f"--data={picture}", f"--model.pretrained={small_clip}")
    assert run.model.hparams["image_size"] == 56
