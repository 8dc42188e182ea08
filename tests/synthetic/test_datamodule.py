from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD

from anomalib_zsad.data import AllCategories, Auxiliary
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.synthetic import Synthetic
from anomalib_zsad.synthetic.drawing import CATEGORIES, SEEN, UNSEEN

FEW = {"train_good": 1, "test_good": 2, "test_defective": 1, "image_size": 48, "num_workers": 0}


def set_up(datamodule: Synthetic, stage: str = "fit") -> Synthetic:
    datamodule.prepare_data()
    datamodule.setup(stage)
    return datamodule


def count_of(category: str) -> int:
    return 2 + len(CATEGORIES[category].defects)


def test_trains_on_what_is_seen_and_tests_on_what_is_not() -> None:
    datamodule = set_up(Synthetic(None, **FEW))

    assert datamodule.name == "Synthetic"
    assert datamodule.training_sets == [f"Synthetic/{name}" for name in CATEGORIES if name in SEEN]
    assert datamodule.train_data.categories == sorted(SEEN)
    assert datamodule.test_data.categories == sorted(UNSEEN)
    assert len(datamodule.train_data) + len(datamodule.val_data) == sum(map(count_of, SEEN))
    assert len(datamodule.test_data) == sum(map(count_of, UNSEEN))


def test_categories_to_train_on_are_not_tested() -> None:
    datamodule = set_up(Synthetic(None, categories=["coin", "washer"], **FEW))

    assert datamodule.train_data.categories == ["coin", "washer"]
    assert datamodule.test_data.categories == sorted(set(UNSEEN) - {"coin"})


def test_the_same_pictures_on_the_disk_and_in_memory(tmp_path: Path) -> None:
    arguments = {"categories": ["wood"], "target_categories": ["leather", "button"], "seed": 4, **FEW}
    drawn, written = set_up(Synthetic(None, **arguments)), set_up(Synthetic(tmp_path, **arguments))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["button", "leather", "wood"]
    for split in ("train_data", "val_data", "test_data"):
        pairs = list(zip(getattr(drawn, split), getattr(written, split), strict=True))
        assert pairs
        for one, other in pairs:
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.gt_mask, other.gt_mask)
            assert (one.category, int(one.gt_label)) == (other.category, int(other.gt_label))
            assert one.gt_mask.any() == one.gt_label


def test_in_memory_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batch = next(iter(set_up(Synthetic(None, categories=["wood", "key"], **FEW)).train_dataloader()))

    assert set(batch.category) == {"wood", "key"}
    assert batch.image.shape[1:] == (3, 48, 48)
    assert not list(tmp_path.iterdir())


def test_the_choice_of_categories_does_not_change_a_picture() -> None:
    alone, among = (
        {item.image_path: item.image for item in set_up(Synthetic(None, target_categories=names, **FEW)).test_data}
        for names in (["tile"], ["stone", "tile", "mesh"])
    )
    assert len(alone) == count_of("tile")
    assert all(torch.equal(image, among[path]) for path, image in alone.items())


def test_another_seed_draws_others() -> None:
    first, second = (set_up(Synthetic(None, target_categories=["tile"], seed=seed, **FEW)) for seed in (0, 1))
    assert not any(torch.equal(a.image, b.image) for a, b in zip(first.test_data, second.test_data, strict=True))


def test_anomalib_reads_the_folder(tmp_path: Path) -> None:
    Synthetic(tmp_path, categories=["wood"], target_categories=["capsule"], **FEW).prepare_data()
    stock = MVTecAD(tmp_path, "capsule", train_batch_size=1, eval_batch_size=1, num_workers=0)
    stock.prepare_data()
    stock.setup()

    kinds = {Path(path).parent.name for path in stock.test_data.samples["image_path"]}
    assert kinds == {"good", *CATEGORIES["capsule"].defects}
    assert len(stock.train_data) == 1
    assert all(item.gt_mask.any() == item.gt_label for item in stock.test_data)


def test_a_category_is_a_datamodule_for_anomalib_s_own_models() -> None:
    part = Synthetic(root=None, categories=["tile"], train_good=2, test_good=3, test_defective=1).parts()["tile"]
    part.setup("fit")
    assert sorted(part.test_data.samples["label_index"]) == [0] * 3 + [1] * len(CATEGORIES["tile"].defects)
    assert len(part.val_data) == len(part.test_data)
    assert not part.train_data.samples["label_index"].any()


@pytest.mark.parametrize("root", ["disk", None])
def test_references_are_normal_training_images(tmp_path: Path, root: str | None) -> None:
    datamodule = Synthetic(root and tmp_path, categories=["wood"], **{**FEW, "train_good": 3})
    datamodule.prepare_data()

    images = datamodule.normal_images("wood")

    assert [path.parts[-3:] for path in images] == [("train", "good", f"00{n}.png") for n in range(3)]
    assert all(read_image(path).shape == (3, 48, 48) for path in images)


def test_as_the_target_of_another_its_unseen_categories_are_tested(mvtec_root: Path) -> None:
    synthetic = Synthetic(None, target_categories=["coin"], **FEW)
    datamodule = Auxiliary(MVTecAD(mvtec_root, "bottle"), ["bottle"], target=synthetic)
    datamodule.setup("test")
    assert datamodule.test_data.categories == ["coin"]

    every = AllCategories(synthetic.source, ["cloth", "coin"])
    every.setup("test")
    assert every.test_data.categories == ["cloth", "coin"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"test_good": 0}, "test_good must be an integer in .*, got 0"),
        ({"image_size": 16}, "image_size must be an integer in .*, got 16"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Synthetic(None, **arguments)


def test_an_unknown_category_is_named() -> None:
    with pytest.raises(ValueError, match="Unknown category 'bottle' of Synthetic, expected some of: cloth, wood"):
        Synthetic(None, categories=["bottle"], **FEW).prepare_data()
