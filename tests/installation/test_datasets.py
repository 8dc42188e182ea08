from pathlib import Path

import pytest

from anomalib_zsad.installation.datasets import find_datasets
from tests.support.trees import magnetic_tile_tree, mvtec_tree, visa_tree


def test_datasets_are_found_at_their_default_or_by_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    visa_tree(Path("datasets/visa"), ["candle", "pcb1"])
    mvtec_tree(Path("datasets/MVTec-AD"), ["bottle"])
    magnetic_tile_tree(Path("datasets/MagneticTile"))
    Path("datasets/BTAD").mkdir()
    Path("datasets/notes.txt").touch()
    found = {each.name: each for each in find_datasets()}
    assert {name for name, each in found.items() if each.categories} == {"VisA", "MVTec", "MagneticTile"}
    visa, mvtec = found["VisA"], found["MVTec"]
    assert (visa.categories, visa.known, visa.option) == (2, 12, "--data VisA")
    assert (mvtec.categories, mvtec.known) == (1, 15)
    assert mvtec.option == "--data MVTec --data.root datasets/MVTec-AD"
    assert found["BTAD"].root == Path("datasets/BTAD")
    assert "Listed" not in found
    assert len(found) > 15
