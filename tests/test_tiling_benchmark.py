"""The benchmark of tiles in small: its scenes are what it says, and it scores them in every way."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from anomalib_zsad import AFClip

FILE = Path(__file__).parents[1] / "benchmarks" / "tiling.py"


@pytest.fixture(scope="module")
def tiling() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiling_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def test_a_scene_is_large_and_its_defect_small(tiling):
    image, mask = tiling.scene("coin", 1, 0, is_defective=True)
    normal, nothing = tiling.scene("coin", 2, 0, is_defective=False)
    assert image.shape == normal.shape == (3, 1024, 1024)
    assert 0.0005 <= mask.mean() <= 0.005
    assert not nothing.any()
    assert np.array_equal(tiling.scene("coin", 1, 0, is_defective=True)[1], mask)


def test_all_ways_of_scoring_have_figures(tiling, tmp_path, monkeypatch):
    weights = tmp_path / "weights.safetensors"
    AFClip(backbone="zsad-tiny", scales=(1,)).save_weights(weights)
    monkeypatch.setattr(tiling, "SETTINGS", {"whole": {}, "tiles": {"tile": 168, "image_size": 252}})
    rows = tiling.detection(weights, 0, ["coin"], 2)
    assert [row["scored"] for row in rows] == ["whole", "tiles"]
    assert all(0 <= row[name] <= 1 for row in rows for name in tiling.METRICS)
