"""A training that is killed or interrupted leaves a checkpoint that loads and resumes."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from anomalib_zsad.data import VisA
from anomalib_zsad.models import AFClip
from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE

LONG = 100_000


class CtrlC(Callback):
    """Interrupts in the second epoch as the keyboard does."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)  # Lightning ignores it from the first one on


def candles(root: Path) -> VisA:
    return VisA(root, ["candle"], num_workers=0, val_ratio=0.3)


def assert_loads_and_resumes(checkpoint: Path, clip: Path, visa_root: Path, folder: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["optimizer_states"]
    assert AFClip.load_from_checkpoint(checkpoint, pretrained=clip).trained_on == ["VisA/candle"]
    resumed = AFClip(pretrained=clip, image_size=IMAGE_SIZE, epochs=saved["epoch"] + 2)
    engine = engine_in(folder)
    engine.fit(resumed, datamodule=candles(visa_root), ckpt_path=checkpoint)
    assert engine.trainer.current_epoch == saved["epoch"] + 2


@pytest.mark.slow
def test_what_a_killed_command_leaves(small_clip: Path, visa_root: Path, tmp_path: Path) -> None:
    model = [f"--model.pretrained={small_clip}", f"--model.image_size={IMAGE_SIZE}", f"--model.epochs={LONG}"]
    data = [f"--data.root={visa_root}", "--data.categories=[candle]", "--data.num_workers=0", "--data.val_ratio=0.3"]
    command = ["train", "--model=anomalib_zsad.AFClip", *model, "--data=VisA", *data, f"--default_root_dir={tmp_path}"]
    run = "import sys; from anomalib.cli.cli import main; sys.argv[0] = 'anomalib'; main()"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", run, *command, "--trainer.accelerator=cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        checkpoint = tmp_path / "AFClip" / "VisA" / "v0" / "weights" / "lightning" / "model.ckpt"
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        process.kill()
    assert_loads_and_resumes(checkpoint, small_clip, visa_root, tmp_path / "resumed")


def test_what_an_interrupted_training_leaves(
    interruptible: None, small_clip: Path, visa_root: Path, tmp_path: Path
) -> None:
    engine = engine_in(tmp_path, callbacks=[CtrlC()])
    with pytest.raises(SystemExit):
        engine.fit(AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=LONG), datamodule=candles(visa_root))
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert_loads_and_resumes(checkpoint, small_clip, visa_root, tmp_path / "resumed")
