"""anomalib's own models beside ours; their weights are not at hand, so their backbones are untrained ones."""

import pytest
import torch
from anomalib.models.components.feature_extractors import timm as extractors
from anomalib.models.image.anomalyvfm import lightning_model as vfm_lightning
from anomalib.models.image.anomalyvfm import torch_model as vfm
from torch import Tensor, nn

from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.entries import Entry, Protocol, Spec
from anomalib_zsad.benchmark.grid import Benchmark, Cell

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
DRAWN = {"root": None, "categories": ["tile"], "test_good": 2, "test_defective": 1, "image_size": 112}


class SmallFoundation(nn.Module):
    """What AnomalyVFM asks of its vision foundation model, over patches of 16 pixels."""

    feature_dim, patch_size = 512, 16

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, self.feature_dim, self.patch_size, self.patch_size)

    def add_peft(self) -> None:
        pass

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return tokens.mean(1).repeat(1, 3), tokens


@pytest.fixture(autouse=True)
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    create = extractors.timm.create_model
    monkeypatch.setattr(
        extractors.timm, "create_model", lambda *given, **more: create(*given, **more | {"pretrained": False})
    )
    monkeypatch.setattr(vfm_lightning, "DEFAULT_IMAGE_SIZE", DRAWN["image_size"])
    monkeypatch.setattr(vfm, "BaseModel", SmallFoundation)
    monkeypatch.setattr(vfm, "hf_hub_download", lambda **_: "")
    monkeypatch.setattr(vfm, "load_file", lambda _: {})
    monkeypatch.setattr(vfm.AnomalyVFMModel, "load_state_dict", lambda *_: None)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("anomalib.models.Patchcore", {"backbone": "resnet18", "layers": ["layer3"], "pre_trained": False}),
        Entry("anomalib.models.AnomalyDINO"),
        Entry("anomalib.models.AnomalyVFM"),
    ],
    ids=lambda entry: entry.class_path.rsplit(".", 1)[-1],
)
def test_a_baseline_of_anomalib_has_image_and_pixel_metrics(entry, tmp_path):
    torch.manual_seed(0)
    protocol = Protocol(Spec("anomalib_zsad.VisA"), {"Synthetic": Spec("anomalib_zsad.Synthetic", DRAWN)})
    benchmark = Benchmark({"baseline": entry}, [protocol], num_workers=0)
    table = CellRunner(benchmark, tmp_path, **QUIET)(Cell("baseline", "Synthetic", "tile", None, 0))
    assert list(table["category"]) == ["tile"]
    assert table[["image_AUROC", "pixel_AUROC", "pixel_AUPRO"]].notna().all(axis=None)
