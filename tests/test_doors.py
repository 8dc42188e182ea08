"""anomalib's own ways in, each walked through once, with one checkpoint that its command line has trained.

OpenVINO and ONNX are in the contract of exports.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import PredictDataset
from anomalib.deploy import TorchInferencer
from anomalib.engine import Engine
from anomalib.models import get_model
from PIL import Image
from torch.utils.data import DataLoader

from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE

QUIET = ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
CALLBACKS = [
    {"class_path": "anomalib.callbacks.TimerCallback"},
    {"class_path": "anomalib.callbacks.GraphLogger"},
    {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {
            "monitor": "image_AUROC",
            "mode": "max",
            "patience": 0,
            "min_delta": 2.0,
        },  # never improves so far
    },
]
LOGGER = {"class_path": "anomalib.loggers.AnomalibTensorBoardLogger", "init_args": {"save_dir": "tensorboard"}}

Command = Callable[..., AnomalibCLI]


@pytest.fixture(scope="module")
def model(small_clip: Path) -> list[str]:
    return ["--model=anomalib_zsad.AFClip", f"--model.pretrained={small_clip}", f"--model.image_size={IMAGE_SIZE}"]


@pytest.fixture(scope="module")
def data(visa_root: Path) -> list[str]:
    plumbing = ["--data.num_workers=0", "--data.val_ratio=0.3", "--data.categories=[candle,pcb1]"]
    return ["--data=VisA", f"--data.root={visa_root}", *plumbing]


@pytest.fixture(scope="module")
def config(model: list[str], data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `train --print_config`, with callbacks and a logger."""
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    options = [
        *model,
        "--model.epochs=5",
        *data,
        *QUIET,
        f"--trainer.logger={LOGGER}",
        f"--trainer.callbacks={CALLBACKS}",
    ]
    path.write_text(printed_config("train", *options))
    return path


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `anomalib train -c`."""
    folder = tmp_path_factory.mktemp("doors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        AnomalibCLI(args=["train", "-c", str(config), f"--default_root_dir={folder}"])
    return folder


@pytest.fixture
def checkpoint(trained: Path) -> str:
    return f"--ckpt_path={next(trained.rglob('model.ckpt'))}"


@pytest.fixture
def part(visa_root: Path) -> Path:
    return next((visa_root / "candle").rglob("Anomaly/*.*"))


def printed_config(*arguments: str) -> str:
    """What `--print_config` prints."""
    cli = AnomalibCLI(args=list(arguments), run=False)
    section = cli.config[cli.config["subcommand"]]
    return cli._parser(cli.config["subcommand"]).dump(section, skip_none=False)


def test_the_printed_configuration_is_read_back_as_itself(config: Path) -> None:
    assert yaml.safe_load(printed_config("train", f"--config={config}")) == yaml.safe_load(config.read_text())


def test_training_obeys_callbacks_and_writes_to_the_logger(trained: Path) -> None:
    checkpoint = torch.load(next(trained.rglob("model.ckpt")), weights_only=True)
    assert checkpoint["epoch"] == 1
    assert list((trained / "tensorboard").rglob("events.out.tfevents*"))
    assert pd.read_csv(next(trained.rglob("metrics.csv")))["image_F1Score"].notna().all()


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_every_verb_takes_the_checkpoint(
    verb: str, model: list[str], data: list[str], checkpoint: str, tmp_path: Path
) -> None:
    more = ["--model.epochs=6"] if verb == "fit" else []
    cli = AnomalibCLI(args=[verb, *model, *more, *data, *QUIET, checkpoint, f"--default_root_dir={tmp_path}"])
    assert cli.engine.trainer.state.finished
    assert "image_AUROC" in cli.engine.trainer.callback_metrics


def test_all_ways_to_a_score_agree(
    model: list[str], checkpoint: str, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = f"--default_root_dir={tmp_path}"
    AnomalibCLI(args=["predict", *model, f"--data={part}", *QUIET, checkpoint, folder])
    row = pd.read_csv(next(tmp_path.rglob("predictions.csv"))).iloc[0]

    AnomalibCLI(args=["export", *model, "--export_type=torch", f"--export_root={tmp_path}", checkpoint])
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    inferencer = TorchInferencer(next(tmp_path.rglob("*.pt")), device="cpu")
    pixels = np.asarray(Image.open(part).convert("RGB"))  # what anomalib's gradio script is handed
    scores = [inferencer.predict(each).pred_score.item() for each in (str(part), pixels)]

    assert scores == pytest.approx([row["normalized_score"]] * 2, abs=1e-5)
    assert scripted(checkpoint, model, part, tmp_path) == pytest.approx(row["normalized_score"], abs=1e-5)


def scripted(checkpoint: str, model: list[str], part: Path, folder: Path) -> float:
    """The score of anomalib's script `lightning_inference`: a model by its name, and a loader."""
    arguments = dict(each.removeprefix("--model.").split("=") for each in model[1:])
    named = get_model({"class_path": "anomalib_zsad.AFClip", "init_args": {**arguments, "image_size": IMAGE_SIZE}})
    dataset = PredictDataset(part)
    engine: Engine = engine_in(folder)
    loader = DataLoader(dataset, collate_fn=dataset.collate_fn)
    (batch,) = engine.predict(named, dataloaders=[loader], ckpt_path=checkpoint.removeprefix("--ckpt_path="))
    return batch.pred_score.item()
