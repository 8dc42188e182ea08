from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from anomalib import TaskType
from PIL import Image

from anomalib_zsad.data import AllCategories, Auxiliary, MagneticTile
from anomalib_zsad.data.category_dataset import CategoryDataset
from tests.support.trees import MAGNETIC_TILE_DEFECTS, magnetic_tile_tree

TRAINED = ["MT_Blowhole", "MT_Crack", "MT_Fray"]


def kinds(dataset: CategoryDataset) -> Counter[str]:
    return Counter(Path(path).parts[-3] for path in dataset.samples["image_path"])


def tiles(dataset: CategoryDataset) -> set[int]:
    """Name every tile by the frame of its first picture: the generated ones are 15 frames apart."""
    return {int(Path(path).stem.split("_")[-1]) // 100 for path in dataset.samples["image_path"]}


def set_up(datamodule: MagneticTile, stage: str) -> MagneticTile:
    datamodule.prepare_data()
    datamodule.setup(stage)
    return datamodule


def test_kinds_to_train_on_split_the_set(magnetic_tile_root: Path) -> None:
    datamodule = set_up(MagneticTile(magnetic_tile_root, train_defects=TRAINED), "fit")

    training = kinds(datamodule.train_data) + kinds(datamodule.val_data)
    assert training == {"MT_Free": 8, **dict.fromkeys(TRAINED, 4)}
    assert kinds(datamodule.test_data) == {"MT_Free": 4, "MT_Break": 4, "MT_Uneven": 4}
    assert datamodule.name == "MagneticTile"
    assert datamodule.training_sets == ["MagneticTile/magnetic_tile"]
    assert datamodule.test_data.categories == ["magnetic_tile"]


def test_another_number_of_images_is_told_with_the_published_one(
    magnetic_tile_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_up(MagneticTile(magnetic_tile_root), "test")
    (said,) = [each for each in caplog.messages if "published" in each]
    assert "12 images in MT_Free instead of 952" in said
    assert "4 images in MT_Crack instead of 57" in said
    assert str(magnetic_tile_root) in said


@pytest.mark.parametrize("seed", range(4))
def test_pictures_of_a_tile_stay_on_one_side(magnetic_tile_root: Path, seed: int) -> None:
    datamodule = MagneticTile(magnetic_tile_root, train_defects=TRAINED, free_train_share=0.4, val_ratio=0.4, seed=seed)
    set_up(datamodule, "fit")

    sides = [tiles(getattr(datamodule, f"{split}_data")) for split in ("train", "val", "test")]

    assert sum(map(len, sides)) == len(set.union(*sides))


def test_free_pictures_of_a_tile_with_a_defect_follow_the_defect(tmp_path: Path) -> None:
    root = magnetic_tile_tree(tmp_path, free=12, anomalous=2)
    for kind in ("MT_Break", "MT_Crack"):
        defect = next((root / kind / "Imgs").glob("exp2*.jpg"))
        frame = int(defect.stem.split("_")[-1]) + 20
        for suffix in ("jpg", "png"):
            picture = Image.fromarray(np.zeros((40, 32), dtype=np.uint8))
            picture.save(root / "MT_Free" / "Imgs" / f"exp3_num_{frame}.{suffix}")

    for seed in range(8):
        datamodule = set_up(MagneticTile(root, train_defects=["MT_Crack"], test_defects=["MT_Break"], seed=seed), "fit")
        for dataset, other in (
            (datamodule.train_data + datamodule.val_data, "MT_Break"),
            (datamodule.test_data, "MT_Crack"),
        ):
            assert kinds(dataset)[other] == 0
        assert tiles(datamodule.train_data + datamodule.val_data).isdisjoint(tiles(datamodule.test_data))


@pytest.mark.parametrize("stage", ["test", "predict", "validate"])
def test_the_test_side_is_the_same_without_a_fit(magnetic_tile_root: Path, stage: str) -> None:
    fitted = set_up(MagneticTile(magnetic_tile_root, train_defects=TRAINED), "fit").test_data
    tested = set_up(MagneticTile(magnetic_tile_root, test_defects=["MT_Break", "MT_Uneven"]), stage).test_data

    assert list(tested.samples["image_path"]) == list(fitted.samples["image_path"])


def test_without_named_kinds_every_image_is_tested(magnetic_tile_root: Path) -> None:
    everything = {"MT_Free": 12, **dict.fromkeys(MAGNETIC_TILE_DEFECTS, 4)}

    assert kinds(set_up(MagneticTile(magnetic_tile_root), "test").test_data) == everything
    for datamodule in (
        AllCategories(MagneticTile(magnetic_tile_root)),
        Auxiliary(MagneticTile(magnetic_tile_root, test_defects=["MT_Break"]), target=MagneticTile(magnetic_tile_root)),
    ):
        datamodule.setup("test")
        assert kinds(datamodule.test_data) == everything


def test_as_a_target_the_test_side_is_tested(magnetic_tile_root: Path) -> None:
    target = MagneticTile(magnetic_tile_root, test_defects=["MT_Break"])
    datamodule = Auxiliary(MagneticTile(magnetic_tile_root), target=target)
    datamodule.setup("test")

    assert kinds(datamodule.test_data) == {"MT_Free": 4, "MT_Break": 4}


def test_images_are_jpg_and_masks_are_cut_between_the_grey_levels(magnetic_tile_root: Path) -> None:
    dataset = set_up(MagneticTile(magnetic_tile_root), "test").test_data

    assert dataset.task == TaskType.SEGMENTATION
    assert all(path.endswith(".jpg") for path in dataset.samples["image_path"])
    for item in dataset:
        levels = np.asarray(Image.open(Path(item.image_path).with_suffix(".png")))
        assert item.gt_mask.sum() == (levels == 255).sum()


def test_an_empty_mask_leaves_its_image_anomalous(magnetic_tile_root: Path) -> None:
    dataset = set_up(MagneticTile(magnetic_tile_root), "test").test_data

    empty = [Path(item.image_path).parts[-3] for item in dataset if item.gt_label and not item.gt_mask.any()]

    assert empty == ["MT_Uneven"]


def test_normal_images_are_those_of_the_training_side(magnetic_tile_root: Path) -> None:
    datamodule = set_up(MagneticTile(magnetic_tile_root, train_defects=TRAINED), "fit")

    images = datamodule.normal_images("magnetic_tile")

    assert len(images) == 8
    assert set(map(str, images)).isdisjoint(datamodule.test_data.samples["image_path"])
    with pytest.raises(ValueError, match="has no normal image that is not a test image"):
        MagneticTile(magnetic_tile_root).normal_images("magnetic_tile")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"train_defects": ["Crack"]}, "Unknown kind of defect 'Crack', expected some of: MT_Blowhole"),
        ({"train_defects": ["MT_Crack"], "test_defects": ["MT_Crack"]}, "other kinds to test on"),
        ({"train_defects": list(MAGNETIC_TILE_DEFECTS)}, "other kinds to test on"),
        ({"free_train_share": 1.0}, "free_train_share must be a number in .*, got 1.0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path: Path, arguments: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MagneticTile(tmp_path, **arguments)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No folder .*MT_Crack.Imgs: expected .*MT_Free"):
        MagneticTile(tmp_path, train_defects=["MT_Crack"]).prepare_data()
