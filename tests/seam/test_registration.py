"""Names of this package in anomalib's own functions."""

import importlib
import sys

import anomalib.data
import pandas as pd
import pytest
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import get_datamodule
from anomalib.models import get_model
from anomalib.models.components import AnomalibModule

from anomalib_zsad import AFClip, MVTec, VisA
from anomalib_zsad.seam import registration

TINY = {"backbone": "zsad-tiny", "feature_layers": [1]}


@pytest.mark.parametrize(
    "named",
    ["anomalib_zsad.AFClip", {"class_path": "anomalib_zsad.AFClip"}, {"class_path": "anomalib_zsad.models.AFClip"}],
)
def test_get_model_knows_ours(named):
    model = get_model(named, **TINY)
    assert isinstance(model, AFClip)
    assert (model.hparams["backbone"], model.hparams["feature_layers"]) == ("zsad-tiny", [1])


def test_get_model_knows_others_and_refuses_the_rest():
    assert isinstance(get_model("padim", pre_trained=False), AnomalibModule)
    with pytest.raises(ModuleNotFoundError):
        get_model({"class_path": "os.path.join"})


def test_get_datamodule_knows_ours(visa_root):
    options = {"root": str(visa_root), "categories": ["candle"]}
    assert isinstance(get_datamodule({"class_path": "anomalib_zsad.VisA", "init_args": options}), VisA)
    assert anomalib.data.MVTec is MVTec
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        anomalib.data.Nothing  # noqa: B018


def test_what_is_imported_later_is_told_then(tmp_path, monkeypatch):
    (tmp_path / "imported_later.py").write_text("value = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registration, "_CALLS", {"imported_later": lambda module: setattr(module, "value", 2)})
    registration.announce()
    assert importlib.import_module("imported_later").value == 2
    assert not [each for each in sys.meta_path if getattr(each, "name", "") == "imported_later"]


def test_anomalibs_benchmark_runs_our_models_beside_its_own(mvtec_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    padim = {"class_path": "Padim", "init_args": {"pre_trained": False, "layers": ["layer1"], "n_features": 2}}
    ours = {"class_path": "anomalib_zsad.AFClip", "init_args": {**TINY, "k_shot": 1}}
    data = {"root": str(mvtec_root), "category": "bottle", "num_workers": 0}
    grid = {"seed": 1, "model": {"grid": [padim, ours]}, "data": {"class_path": "MVTecAD", "init_args": data}}
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump({"accelerator": "cpu", "benchmark": grid}))
    AnomalibCLI(["benchmark", "--config", "benchmark.yaml"])
    table = pd.read_csv(next(tmp_path.glob("runs/benchmark/*/results.csv")))
    assert table["model.class_path"].tolist() == ["Padim", "anomalib_zsad.AFClip"]
    assert table["image_AUROC"].between(0, 1).all()
