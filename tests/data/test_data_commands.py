"""The data part of the commands, as anomalib's own command line reads it."""

from pathlib import Path

import pytest

import anomalib_zsad
from tests.support.known_trees import btad, jsonl

anomalib_zsad.AFClip  # noqa: B018  (as reading `--model anomalib_zsad.AFClip` imports the datamodules)
MODEL = ("--model", "Padim", "--model.pre_trained", "False")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(command: str, *data: str) -> object:
    from anomalib.cli.cli import AnomalibCLI

    return AnomalibCLI(args=[command, *MODEL, *data], run=False).datamodule


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_preset_by_its_short_name(command: str, visa_root: Path, mvtec_root: Path) -> None:
    datamodule = read(
        command, "--data", "VisA", "--data.root", str(visa_root), "--data.target", "MVTec",
        "--data.target.root", str(mvtec_root), "--data.target.categories", "[wood,pill]", "--data.num_workers", "0",
        "--data.val_ratio", "0.6", "--data.seed", "3",
    )  # fmt: skip
    datamodule.prepare_data()
    datamodule.setup("fit")

    assert datamodule.seed == 3
    assert datamodule.num_workers == 0
    assert len(datamodule.val_data) == 12 * 4
    assert datamodule.test_data.categories == ["pill", "wood"]


def test_roots_have_anomalibs_defaults() -> None:
    datamodule = read("train", "--data", "VisA", "--data.target", "MVTec")

    assert datamodule.source.root == Path("datasets/visa")
    assert datamodule.target.source.root == Path("datasets/MVTecAD")


def test_magnetic_tiles(magnetic_tile_root: Path) -> None:
    datamodule = read(
        "train", "--data", "MagneticTile", "--data.root", str(magnetic_tile_root),
        "--data.train_defects", "[MT_Blowhole,MT_Crack,MT_Fray]", "--data.free_train_share", "0.5",
    )  # fmt: skip
    datamodule.setup("fit")

    assert len(datamodule.test_data) == 6 + 4 + 4


def test_published_sets_and_lists(tmp_path: Path) -> None:
    datamodule = read(
        "test", "--data", "BTAD", "--data.root", str(btad(tmp_path / "btad")), "--data.categories", '["02"]',
        "--data.target", "Listed", "--data.target.file", str(jsonl(tmp_path / "rails")), "--data.eval_batch_size", "3",
    )  # fmt: skip
    datamodule.setup("fit")

    assert datamodule.eval_batch_size == 3
    assert datamodule.train_data.categories == ["02"]
    assert datamodule.test_data.categories == ["Crush", "Dent"]


def test_any_datamodule_as_source_and_target(mvtec_root: Path, visa_root: Path) -> None:
    datamodule = read(
        "train", "--data", "Auxiliary", "--data.source", "MVTecAD", "--data.source.root", str(mvtec_root),
        "--data.categories", "[bottle]", "--data.target", "VisA", "--data.target.root", str(visa_root),
    )  # fmt: skip
    datamodule.setup("fit")

    assert datamodule.train_data.categories == ["bottle"]
    assert len(datamodule.test_data.categories) == 12


def test_all_categories_of_a_stock_datamodule(mvtec_root: Path) -> None:
    datamodule = read(
        "test", "--data", "AllCategories", "--data.source", "MVTecAD", "--data.source.root", str(mvtec_root)
    )
    datamodule.setup("test")

    assert len(datamodule.test_data.categories) == 15


def test_drawn_pictures_by_their_short_name() -> None:
    datamodule = read(
        "train", "--data", "Synthetic", "--data.root", "null", "--data.categories", "[wood,key]",
        "--data.target_categories", "[coin]", "--data.test_good", "2", "--data.test_defective", "1",
    )  # fmt: skip
    datamodule.prepare_data()
    datamodule.setup("fit")

    assert datamodule.test_data.categories == ["coin"]
    assert read("test", "--data", "Synthetic").source.root == Path("datasets/Synthetic")
