import logging
from pathlib import Path

import pytest
import torch
from anomalib import data
from anomalib.data import AnomalibDataModule, Folder, ImageBatch, Kolektor, MVTecAD, Visa

from anomalib_zsad.data import AllCategories, Auxiliary, MagneticTile, MVTec, VisA
from anomalib_zsad.data.categories import category_names, load, parts_of
from anomalib_zsad.data.item import categories_of
from anomalib_zsad.data.names import dataset_key


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("MVTecAD", 15), ("Visa", 12), ("BTech", 3), ("MPDD", 6), ("BMAD", 6), ("RealIAD", 30), ("VAD", 1),
        ("MVTecLOCO", 5), ("MVTecAD2", 8), ("AutoVI", 6), ("Kaputt", 10),
    ],
)  # fmt: skip
def test_all_categories_of_a_stock_datamodule_are_known(name: str, count: int) -> None:
    datamodule = getattr(data, name)()

    assert len(category_names(datamodule)) == count
    assert datamodule.category in category_names(datamodule)


def test_a_datamodule_without_categories_has_the_one_of_its_name() -> None:
    assert category_names(Kolektor()) == ["Kolektor"]
    folder = Folder("screws", normal_dir="good")
    assert category_names(folder) == ["screws"]
    assert categories_of(ImageBatch(image=torch.zeros(2, 3, 4, 4)), folder) == ["screws"] * 2


def test_a_users_datamodule_is_not_given_the_categories_of_what_it_imports() -> None:
    class Mine(MVTecAD):
        pass

    assert len(category_names(Mine())) == 15
    assert category_names(Mine(category="my product")) == ["my product"]


def test_parts_are_the_categories_and_leave_the_datamodule_as_it_was(mvtec_root: Path) -> None:
    source = MVTecAD(mvtec_root, "cable")
    source.setup()
    before = len(source.test_data)

    parts = parts_of(source)
    for part in parts.values():
        load(part, seed=0)

    assert list(parts) == category_names(source)
    assert all(f"/{name}/" in path for name, part in parts.items() for path in part.test_data.samples["image_path"])
    assert source.category == "cable"
    assert len(source.test_data) == before


def test_only_categories_that_are_there_are_used_and_the_others_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in category_names(MVTecAD())[2:]:
        (tmp_path / name).mkdir()

    with caplog.at_level(logging.WARNING):
        parts = parts_of(MVTecAD(tmp_path))

    assert list(parts) == category_names(MVTecAD())[2:]
    assert "lacks bottle, cable: using the other categories" in caplog.text


def test_an_unknown_category_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Unknown category 'bottel' of MVTecAD, expected some of: bottle, cable"):
        parts_of(MVTecAD(), ["bottel"])


def test_a_folders_test_images_are_all_used(mvtec_root: Path) -> None:
    folder = Folder(
        "bottles",
        root=mvtec_root / "bottle",
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/broken",
        mask_dir="ground_truth/broken",
    )

    part = parts_of(folder)["bottles"]
    load(part, seed=0)

    assert part.test_data.samples["label_index"].value_counts().to_dict() == {0: 3, 1: 2}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (VisA(), Visa()),
        (MVTec(), MVTecAD()),
        (Auxiliary(Visa()), VisA()),
        (AllCategories(MVTecAD()), MVTec()),
        (MagneticTile(), "MagneticTile/magnetic_tile"),
        (VisA(), "VisA/candle"),
        (MVTec(target=VisA()), "visa"),
        (MagneticTile(train_defects=["MT_Crack"]), "magnetictile"),
    ],
)
def test_one_dataset_has_one_key(one: AnomalibDataModule, other: AnomalibDataModule | str) -> None:
    assert dataset_key(one) == dataset_key(other)


def test_other_datasets_have_other_keys() -> None:
    keys = {dataset_key(module) for module in (VisA(), MVTec(), MagneticTile(), data.MVTecAD2(), data.MVTecLOCO())}

    assert len(keys) == 5
