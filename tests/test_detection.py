"""What the methods detect over the small CLIP: a change that breaks learning is seen.

Settings are those of configs/benchmark/demo.yaml with half of the categories, fewer and smaller pictures, one window,
and as many epochs as these need. `benchmarks/detection.py` measures all of it, over three seeds; the bounds here leave
room for another processor's rounding, and would not be met by chance.
"""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
from anomalib.engine import Engine

from anomalib_zsad import Synthetic
from anomalib_zsad.benchmark.config_file import read_benchmark
from anomalib_zsad.benchmark.grid import Cell, build_model
from anomalib_zsad.evaluation.table import mean_values
from anomalib_zsad.synthetic.drawing import SEEN, UNSEEN

CONFIG = Path(__file__).parents[1] / "configs" / "benchmark" / "demo.yaml"
SIZE = 84
"""Side of the pictures in pixels."""
configured = lru_cache(read_benchmark)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


def detection(method: str, drawn: Path, folder: Path, **options: object) -> dict[str, float]:
    entry = deepcopy(configured(CONFIG).models[method])
    if method != "ACD-CLIP":  # which changes the vision tower: the others compute its features in the first epoch only
        entry.init_args["cache_features"] = str(folder / "features")
    if method == "AF-CLIP":
        entry.init_args["scales"] = [1]
    entry.init_args.update(image_size=SIZE, **options)
    model = build_model(entry, Cell(method, "", None, None, seed=0), visualizer=False)
    categories = {"categories": SEEN[::2], "target_categories": UNSEEN[::2]}
    data = Synthetic(drawn, **categories, test_good=6, test_defective=1, image_size=SIZE, num_workers=0)
    Engine(default_root_dir=folder, accelerator="cpu", devices=1, logger=False).train(model, datamodule=data)
    means = mean_values(model.evaluator.table)  # type: ignore[union-attr,arg-type]
    return {name: round(means[name], 3) for name in ("pixel_AUROC", "pixel_AUPRO", "image_AUROC")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "epochs", "pixel_auroc", "aupro", "image_auroc"),
    [
        ("AF-CLIP", 5, 0.85, 0.58, 0.78),
        ("ACD-CLIP", 3, 0.86, 0.56, 0.80),
        ("WMoE-CLIP", 4, 0.84, 0.50, 0.75),
        ("KAnoCLIP", 4, 0.85, 0.54, 0.80),
        ("AnomalyCLIP", 5, 0.82, 0.42, 0.64),
    ],
)
def test_a_method_detects_on_categories_that_nothing_was_trained_on(
    method: str, epochs: int, pixel_auroc: float, aupro: float, image_auroc: float, drawn: Path, tmp_path: Path
) -> None:
    found = detection(method, drawn, tmp_path, epochs=epochs)
    assert found["pixel_AUROC"] > pixel_auroc, found
    assert found["pixel_AUPRO"] > aupro, found
    assert found["image_AUROC"] > image_auroc, found


@pytest.mark.slow
def test_over_a_clip_that_learnt_nothing_the_same_training_detects_little(drawn: Path, tmp_path: Path) -> None:
    found = detection("AF-CLIP", drawn, tmp_path, epochs=5, pretrained=None)
    assert found["pixel_AUROC"] < 0.70, found
    assert found["pixel_AUPRO"] < 0.40, found
    assert found["image_AUROC"] < 0.60, found
