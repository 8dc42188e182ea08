"""The command line with one process, or as a script with several, which Lightning starts."""

import os
import sys
from pathlib import Path
from typing import Any

from anomalib.cli import AnomalibCLI

from tests.models.kano_clip.building import SMALL
from tests.support.small_clip import IMAGE_SIZE

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ACDClip": ("ACDClip", {"n_groups": 2}),
    "AFClip": ("AFClip", {}),
    "KAnoClip": ("KAnoClip", {"choices": {**SMALL["choices"], "kd_margin": 1.0}}),  # so that every class is pulled
    "KAnoClipGlobal": ("KAnoClip", {"choices": {**SMALL["choices"], "kd_margin": 1.0, "kd_scope": "global"}}),
    "WMoEClip": ("WMoEClip", {"choices": {"balance_weight": 1.0, "gate_noise": True}}),
}
"""With the arguments that are not the defaults."""

SHOWN = "AFClip"
"""Which of them also draws pictures and predicts."""


def train(name: str, clip: Path, data_root: Path, folder: Path, processes: int, batch_size: int) -> None:
    """Run `anomalib train`, which also tests; all that is not named here has its default, so there are bars."""
    method, arguments = METHODS[name]
    pictures = {} if name == SHOWN else {"visualizer": False}
    model = {"pretrained": clip, "image_size": IMAGE_SIZE, "epochs": 1, **arguments, **pictures}
    data = {"root": data_root, "categories": ["candle", "cashew", "pcb1"], "val_ratio": 0.3}
    data.update(num_workers=0, train_batch_size=batch_size)
    command = ["train", "--model", f"anomalib_zsad.{method}"]
    command += [f"--model.{name}={value}" for name, value in model.items()]
    command += ["--data", "VisA", *(f"--data.{name}={value}" for name, value in data.items())]
    # anomalib numbers its folders in every process, all at the same time.
    command += ["--default_root_dir", str(folder / f"process{os.environ.get('LOCAL_RANK', 0)}" / name)]
    command += ["--trainer.accelerator", "cpu", "--trainer.devices", str(processes)]
    command += ["--trainer.strategy", "ddp" if processes > 1 else "auto"]
    cli = AnomalibCLI(args=command)
    if name == SHOWN:
        cli.engine.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)


if __name__ == "__main__":
    _clip, _data_root, _folder = map(Path, sys.argv[1:])
    for _name in METHODS:
        train(_name, _clip, _data_root, _folder, processes=2, batch_size=2)
