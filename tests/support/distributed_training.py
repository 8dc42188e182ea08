"""Trainings with one process, or as a script with several, which Lightning starts."""

import os
import sys
from pathlib import Path
from typing import Any

from anomalib.cli import AnomalibCLI
from anomalib.engine import Engine

import anomalib_zsad
from anomalib_zsad import VisA
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
    """Train and test: `SHOWN` from the command line with all defaults, so there are bars; the others with an engine."""
    method, arguments = METHODS[name]
    model = {"pretrained": clip, "image_size": IMAGE_SIZE, "epochs": 1, **arguments}
    data: dict[str, Any] = {"root": data_root, "categories": ["candle", "cashew", "pcb1"], "val_ratio": 0.3}
    data.update(num_workers=0, train_batch_size=batch_size)
    # anomalib numbers its folders in every process, all at the same time.
    root = folder / f"process{os.environ.get('LOCAL_RANK', 0)}" / name
    trainer = {"accelerator": "cpu", "devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    if name != SHOWN:
        given = getattr(anomalib_zsad, method)(visualizer=False, **model)
        Engine(default_root_dir=root, logger=False, **trainer).train(given, datamodule=VisA(**data))
        return
    command = ["train", "--model", f"anomalib_zsad.{method}", "--data", "VisA", f"--default_root_dir={root}"]
    for group, settings in {"model": model, "data": data, "trainer": trainer}.items():
        command += [f"--{group}.{key}={value}" for key, value in settings.items()]
    cli = AnomalibCLI(args=command)
    cli.engine.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)


if __name__ == "__main__":
    _clip, _data_root, _folder = map(Path, sys.argv[1:])
    for _name in METHODS:
        train(_name, _clip, _data_root, _folder, processes=2, batch_size=2)
