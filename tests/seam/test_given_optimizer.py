"""What a command says of the training itself counts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import SaveConfigCallback

from anomalib_zsad.models import AFClip, KAnoClip
from anomalib_zsad.seam.given_optimizer import take_given_optimizer
from tests.support.small_clip import IMAGE_SIZE


@pytest.mark.parametrize("model", [AFClip, KAnoClip])
def test_epochs_are_those_of_the_trainer_or_else_of_the_model(model: type, small_clip: Path) -> None:
    made = model(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=7)
    for given, expected in ((None, 7), (3, 3), (-1, -1)):
        made.trainer = trainer = Trainer(max_epochs=given, accelerator="cpu", logger=False, enable_checkpointing=False)
        assert trainer.max_epochs == expected
    assert "max_epochs" not in made.trainer_arguments


def test_a_command_decides_epochs_optimizer_and_when_to_stop(small_clip: Path, visa_root: Path, tmp_path: Path) -> None:
    stopping = [
        "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=image_AUROC",
        "--trainer.callbacks.mode=max", "--trainer.callbacks.patience=1",
    ]  # fmt: skip
    optimizer = ["--optimizer=torch.optim.SGD", "--optimizer.lr=0"]

    model = [f"--model.pretrained={small_clip}", f"--model.image_size={IMAGE_SIZE}"]
    data = [f"--data.root={visa_root}", "--data.categories=[candle]", "--data.num_workers=0", "--data.val_ratio=0.5"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", f"--default_root_dir={tmp_path}"]
    command = ["train", "--model=anomalib_zsad.AFClip", *model, "--data=VisA", *data, *quiet, *stopping, *optimizer]

    run = AnomalibCLI(args=[*command, "--trainer.max_epochs=3"])

    (used,) = run.engine.trainer.optimizers
    assert isinstance(used, torch.optim.SGD)
    assert run.engine.trainer.max_epochs == 3
    stopper = next(each for each in run.engine.trainer.callbacks if isinstance(each, EarlyStopping))
    assert stopper.stopped_epoch == 1  # without a step nothing gets better


def test_a_scheduler_without_an_optimizer_is_refused() -> None:
    config = Namespace(optimizer=None, lr_scheduler=Namespace(class_path="torch.optim.lr_scheduler.StepLR"))
    trainer = SimpleNamespace(callbacks=[SaveConfigCallback(ArgumentParser(), config)])
    with pytest.raises(ValueError, match=r"--lr_scheduler .*StepLR: expected --optimizer beside it, got none"):
        take_given_optimizer(torch.nn.Linear(1, 1), trainer)
