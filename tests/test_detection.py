"""What the methods detect over the small CLIP: a change that breaks learning is seen.

Settings are those of configs/benchmark/demo.yaml with half as many pictures. `benchmarks/detection.py` measures all of
it, over three seeds; the bounds here leave room for another processor's rounding, and would not be met by chance.
"""

from pathlib import Path

import pytest
from anomalib.engine import Engine

from anomalib_zsad import Synthetic
from anomalib_zsad.benchmark.config_file import read_benchmark
from anomalib_zsad.benchmark.grid import Cell, build_model
from anomalib_zsad.evaluation.table import mean_values

CONFIG = Path(__file__).parents[1] / "configs" / "benchmark" / "demo.yaml"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


def detection(method: str, drawn: Path, folder: Path, **options: object) -> dict[str, float]:
    entry = read_benchmark(CONFIG).models[method]
    if method != "ACD-CLIP":  # which changes the vision tower: the others compute its features in the first epoch only
        entry.init_args["cache_features"] = str(folder / "features")
    entry.init_args.update(options)
    model = build_model(entry, Cell(method, "", None, None, seed=0), visualizer=False)
    data = Synthetic(drawn, test_good=10, test_defective=1, num_workers=0)
    Engine(default_root_dir=folder, accelerator="cpu", devices=1, logger=False).train(model, datamodule=data)
    means = mean_values(model.evaluator.table)  # type: ignore[union-attr,arg-type]
    return {name: round(means[name], 3) for name in ("pixel_AUROC", "pixel_AUPRO", "image_AUROC")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "pixel_auroc", "aupro", "image_auroc"),
    [
        ("AF-CLIP", 0.90, 0.70, 0.80),
        ("ACD-CLIP", 0.85, 0.60, 0.80),
        ("WMoE-CLIP", 0.85, 0.50, 0.80),
        ("KAnoCLIP", 0.85, 0.50, 0.75),
    ],
)
def test_a_method_detects_on_categories_that_nothing_was_trained_on(
    method: str, pixel_auroc: float, aupro: float, image_auroc: float, drawn: Path, tmp_path: Path
) -> None:
    found = detection(method, drawn, tmp_path)
    assert found["pixel_AUROC"] > pixel_auroc, found
    assert found["pixel_AUPRO"] > aupro, found
    assert found["image_AUROC"] > image_auroc, found


@pytest.mark.slow
def test_over_a_clip_that_learnt_nothing_the_same_training_detects_little(drawn: Path, tmp_path: Path) -> None:
    found = detection("AF-CLIP", drawn, tmp_path, pretrained=None)
    assert found["pixel_AUROC"] < 0.75, found
    assert found["pixel_AUPRO"] < 0.40, found
    assert found["image_AUROC"] < 0.70, found
