"""Small trainings with one process or several, run as a script where there are several: Lightning starts the others."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_zsad import ACDClip, AFClip, KAnoClip, VisA, WMoEClip
from tests.models.kano_clip.builders import SMALL
from tests.small_clip import IMAGE_SIZE

METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ACDClip": (ACDClip, {"n_groups": 2, "augmentation": False}),
    "AFClip": (AFClip, {}),
    "KAnoClip": (KAnoClip, {**SMALL, "kd_margin": 1.0}),  # so that every class is pulled
    "KAnoClipGlobal": (KAnoClip, {**SMALL, "kd_margin": 1.0, "kd_scope": "global"}),
    "WMoEClip": (WMoEClip, {"balance_weight": 1.0}),
}
"""With their arguments, without what is drawn in training."""

TESTED = "AFClip"
"""Which of them is also tested."""


class Losses(Callback):
    """Notes what is logged after every step, and which images there were."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.images: list[list[str]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        logged = {name: value.item() for name, value in trainer.logged_metrics.items() if "loss" in name}
        self.steps.append(logged)
        self.images.append(list(batch.image_path))


def train(name: str, clip: Path, data_root: Path, folder: Path, processes: int, batch_size: int) -> None:
    """Write the losses of every process, the weights that the first one has at the end, and the results of a test."""
    method, arguments = METHODS[name]
    model = method(pretrained=clip, image_size=IMAGE_SIZE, epochs=2, **arguments)
    if name == "WMoEClip":
        model.model.draw = lambda generators: (None, None)  # prompts of the mean
    losses = Losses()
    data = VisA(data_root, ["candle", "cashew", "pcb1"], val_ratio=0.3, num_workers=0, train_batch_size=batch_size)
    engine = Engine(
        callbacks=[losses],
        # anomalib numbers its folders in every process, all at the same time.
        default_root_dir=folder / f"process{os.environ.get('LOCAL_RANK', 0)}" / name,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    engine.fit(model, datamodule=data)
    rank = engine.trainer.global_rank
    (folder / f"{name}-{rank}.json").write_text(json.dumps({"steps": losses.steps, "images": losses.images}))
    if rank == 0:
        model.save_weights(folder / f"{name}.safetensors")
    if name == TESTED:
        engine.test(model, datamodule=data)
        engine.predict(model, datamodule=data, return_predictions=False)


if __name__ == "__main__":
    _clip, _data_root, _folder = map(Path, sys.argv[1:])
    for _name in METHODS:
        train(_name, _clip, _data_root, _folder, processes=2, batch_size=2)
