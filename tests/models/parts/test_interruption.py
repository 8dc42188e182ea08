"""A training that is killed or interrupted leaves a checkpoint that loads and resumes."""

import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from anomalib_zsad.data import VisA
from anomalib_zsad.models import AFClip
from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE

LONG = 100_000


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_last_checkpoint_loads_and_resumes(how, small_clip, visa_root, tmp_path):
    model = [f"--model.pretrained={small_clip}", f"--model.image_size={IMAGE_SIZE}", f"--model.epochs={LONG}"]
    data = [f"--data.root={visa_root}", "--data.categories=[candle]", "--data.num_workers=0", "--data.val_ratio=0.3"]
    command = ["train", "--model=anomalib_zsad.AFClip", *model, "--data=VisA", *data, f"--default_root_dir={tmp_path}"]
    run = "import sys; from anomalib.cli.cli import main; sys.argv[0] = 'anomalib'; main()"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", run, *command, "--trainer.accelerator=cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A shell that starts jobs in the background has them ignore Ctrl-C, and their children too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        checkpoint = tmp_path / "AFClip" / "VisA" / "v0" / "weights" / "lightning" / "model.ckpt"
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(how)
        try:
            process.wait(60)
        finally:
            process.kill()
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["optimizer_states"]
    assert AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip).trained_on == ["VisA/candle"]
    resumed = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=saved["epoch"] + 2)
    engine = engine_in(tmp_path / "resumed")
    again = VisA(visa_root, ["candle"], num_workers=0, val_ratio=0.3)
    engine.fit(resumed, datamodule=again, ckpt_path=checkpoint)
    assert engine.trainer.current_epoch == saved["epoch"] + 2
