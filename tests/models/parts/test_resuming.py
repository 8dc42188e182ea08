"""What is drawn in training, and whether it goes on where it was, whoever reads the images and how many at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint

from anomalib_zsad.data import VisA
from anomalib_zsad.models import ACDClip, AFClip, WMoEClip
from tests.support.contract import TRAINED_ON, engine_in
from tests.support.small_clip import IMAGE_SIZE

DRAWING: dict[str, tuple[Any, dict[str, Any]]] = {
    "ACDClip": (ACDClip, {"n_groups": 2}),
    "WMoEClip": (WMoEClip, {"choices": {"gate_noise": True, "inference_sampling": "monte_carlo"}}),
}
"""The methods that draw, each with all that it can draw."""


def data_of(root: Path, **plumbing: Any) -> VisA:
    return VisA(root, TRAINED_ON, **{"val_ratio": 0.3, "num_workers": 0, "train_batch_size": 4, **plumbing})


@pytest.mark.parametrize("name", DRAWING)
def test_readers_and_batches_of_evaluation_decide_nothing(
    name: str, small_clip: Path, visa_root: Path, tmp_path: Path
) -> None:
    method, arguments = DRAWING[name]
    weights, tables = [], []
    for workers, size in ((0, 8), (3, 1)):
        model = method(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=1, visualizer=False, **arguments)
        data = data_of(visa_root, num_workers=workers, eval_batch_size=size)
        engine_in(tmp_path / str(workers)).train(model, datamodule=data)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]))
        # Decisions are left out: a score may be the threshold itself, since images held out are tested here.
        raw = model.evaluator.table.filter(regex="_(AUROC|AP|F1Max|AUPRO)")
        tables.append(torch.from_numpy(raw.to_numpy(dtype=float)))
    assert torch.equal(weights[0], weights[1])
    assert tables[0].isfinite().any()
    for table in tables[1:]:  # a pixel may change places with one whose score is nearly its own
        torch.testing.assert_close(table, tables[0], atol=1e-4, rtol=0, equal_nan=True)


def test_a_training_goes_on_in_the_middle_of_an_epoch(small_clip: Path, visa_root: Path, tmp_path: Path) -> None:
    def trained(folder: Path, *callbacks: Any, **options: Any) -> torch.Tensor:
        model = ACDClip(pretrained=small_clip, image_size=IMAGE_SIZE, n_groups=2, epochs=2)
        data = data_of(visa_root, val_ratio=0, num_workers=1)
        engine_in(folder, callbacks=list(callbacks)).fit(model, datamodule=data, **options)
        return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])

    every = ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    whole = trained(tmp_path / "whole", every)
    assert len(list(tmp_path.glob("step=*.ckpt"))) == 6
    for step in (1, 3, 5):  # in the first epoch, between both, and in the second one
        checkpoint = tmp_path / f"step={step}.ckpt"
        record = torch.load(checkpoint, weights_only=True)["anomalib_zsad"]
        assert record["trained_on"] == [f"VisA/{name}" for name in TRAINED_ON]
        resumed = trained(tmp_path / str(step), ckpt_path=checkpoint)
        assert torch.equal(resumed, whole)


def test_a_finished_training_goes_on_for_more_epochs(small_clip: Path, visa_root: Path, tmp_path: Path) -> None:
    first, more = (AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=epochs) for epochs in (1, 2))
    engine = engine_in(tmp_path / "first")
    engine.fit(first, datamodule=data_of(visa_root))
    again = engine_in(tmp_path / "more")
    again.train(more, datamodule=data_of(visa_root), ckpt_path=engine.best_model_path)
    assert again.trainer.state.finished
    final = torch.load(next((tmp_path / "more").rglob("model.ckpt")), weights_only=True)
    assert final["epoch"] == 1
    assert all(torch.equal(more.state_dict()[name], value) for name, value in final["state_dict"].items())
    assert not torch.equal(first.model.prompts.vectors, more.model.prompts.vectors)
