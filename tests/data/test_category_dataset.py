import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset, FolderDataset, ImageItem, MVTecADDataset, MVTecLOCODataset
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import RandomRotation, Resize

from anomalib_zsad.data.categories import take_over
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.item import CategoryBatch
from tests.support.trees import mvtec_tree


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mvtec_tree(tmp_path_factory.mktemp("mvtec"), ["bottle", "grid"], normal=2, anomalous=3)


def of_category(root: Path, category: str, split: str = "test") -> CategoryDataset:
    return take_over(MVTecADDataset(root, category, split=split), category)


def both(root: Path) -> CategoryDataset:
    return CategoryDataset.concatenate([of_category(root, "bottle"), of_category(root, "grid")])


def frame(paths: list[str], masks: list[str | None], labels: list[int]) -> pd.DataFrame:
    samples = pd.DataFrame({"image_path": paths, "mask_path": masks, "label_index": labels})
    return samples.assign(split="test", category="things")


def image_file(path: Path, level: int = 100, size: tuple[int, int] = (8, 8)) -> str:
    Image.fromarray(np.full(size, level, dtype=np.uint8)).save(path)
    return str(path)


def test_samples_equal_anomalibs_and_know_their_category(root: Path) -> None:
    own, stock = both(root), MVTecADDataset(root, "grid", split="test")
    expected = {item.image_path: item for item in stock}

    items = [item for item in own if item.category == "grid"]

    assert {item.image_path for item in items} == set(expected)
    for item in items:
        other = expected[item.image_path]
        assert torch.equal(item.image, other.image)
        assert torch.equal(item.gt_mask, other.gt_mask)
        assert item.gt_label == other.gt_label
    assert own.categories == ["bottle", "grid"]
    assert own.task == TaskType.SEGMENTATION


def test_batches_carry_categories_also_from_workers(root: Path) -> None:
    dataset = both(root)
    dataset.augmentations = Resize((16, 16))

    batches = list(DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=dataset.collate_fn))

    assert all(isinstance(batch, CategoryBatch) for batch in batches)
    assert [name for batch in batches for name in batch.category] == ["bottle"] * 5 + ["grid"] * 5
    assert batches[0].image.shape == (4, 3, 16, 16)
    assert batches[0].gt_mask.shape == (4, 16, 16)


def test_what_augmentations_draw_depends_on_seed_epoch_and_image_alone(root: Path) -> None:
    dataset, before = both(root), torch.get_rng_state()
    dataset.augmentations = RandomRotation(180)
    first = dataset[1].image
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(dataset[0].image, dataset[0].image)
    assert torch.equal(dataset[1].image, first)
    for name in ("epoch", "seed"):
        setattr(dataset, name, 1)
        assert not torch.equal(dataset[1].image, first)
        setattr(dataset, name, 0)
    (batch,) = DataLoader(dataset, batch_size=2, sampler=[1, 4], collate_fn=dataset.collate_fn, num_workers=1)
    assert torch.equal(batch.image[0], first)
    assert batch.index == [1, 4]


def test_subsamples_and_sums_keep_samples(root: Path) -> None:
    dataset = both(root)

    halves = dataset.subsample([0, 2]), dataset.subsample([1, 9])

    assert [len(half) for half in halves] == [2, 2]
    together = halves[0] + halves[1]
    assert sorted(together.samples["image_path"]) == sorted(dataset.samples["image_path"].iloc[[0, 1, 2, 9]])
    assert together.task == TaskType.SEGMENTATION
    assert len(dataset.subsample([])) == 0
    with pytest.raises(ValueError, match="every index once"):
        dataset.subsample([1, 1])


def test_a_dataset_that_reads_its_own_samples_goes_on_doing_so(tmp_path: Path) -> None:
    things = tmp_path / "screw_bag"
    for folder in ("test/good", "test/logical_anomalies", "ground_truth/logical_anomalies/000"):
        (things / folder).mkdir(parents=True)
    image_file(things / "test/good/000.png")
    image_file(things / "test/logical_anomalies/000.png")
    for number, column in enumerate((1, 5)):
        mask = np.zeros((8, 8), dtype=np.uint8)
        mask[:, column] = 255
        Image.fromarray(mask).save(things / f"ground_truth/logical_anomalies/000/{number:03d}.png")
    stock = MVTecLOCODataset(tmp_path, "screw_bag", split="test")

    dataset = take_over(stock, "screw_bag").subsample([1, 0])
    anomalous = next(item for item in dataset if item.gt_label)

    assert anomalous.gt_mask.any(dim=0).nonzero().flatten().tolist() == [1, 5]
    assert anomalous.category == "screw_bag"


def test_a_users_own_getitem_is_kept(tmp_path: Path) -> None:
    class Inverted(AnomalibDataset):
        def __init__(self) -> None:
            super().__init__()
            self.samples = frame([image_file(tmp_path / "a.png", level=255)], [None], [0])
            self.samples.attrs["task"] = "classification"

        def __getitem__(self, index: int) -> ImageItem:
            item = super().__getitem__(index)
            return item.update(image=1 - item.image, in_place=False)

    assert take_over(Inverted(), "things")[0].image.max() == 0


def test_without_any_mask_the_task_is_classification(tmp_path: Path) -> None:
    paths = [image_file(tmp_path / name) for name in ("a.png", "b.png")]

    dataset = CategoryDataset(frame(paths, [None, None], [0, 1]))

    assert dataset.task == TaskType.CLASSIFICATION
    assert [item.gt_mask for item in dataset] == [None, None]
    assert [bool(item.gt_label) for item in dataset] == [False, True]


def test_where_a_category_has_no_masks_none_are_used_and_it_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [image_file(tmp_path / name) for name in ("a.png", "b.png")]
    with_mask, without = (
        CategoryDataset(frame([path], [mask], [1]).assign(category=name))
        for path, mask, name in zip(paths, (Path(paths[0]), float("nan")), ("nuts", "bolts"), strict=True)
    )

    with caplog.at_level(logging.WARNING):
        dataset = with_mask + without

    assert with_mask[0].gt_mask is not None
    assert [item.gt_mask for item in dataset] == [None, None]
    assert "No masks in bolts: all categories are used without masks" in caplog.text


def test_an_anomalous_image_without_its_mask_is_named(tmp_path: Path) -> None:
    paths = [image_file(tmp_path / name) for name in ("a.png", "b.png")]

    with pytest.raises(ValueError, match=r"Anomalous image .*b\.png has no mask"):
        CategoryDataset(frame(paths, [paths[0], ""], [1, 1]))
    with pytest.raises(FileNotFoundError, match=r"Mask gone\.png of anomalous image .*b\.png does not exist"):
        CategoryDataset(frame(paths, [paths[0], "gone.png"], [1, 1]))


def test_a_listed_image_that_is_missing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"Image gone\.png is listed"):
        CategoryDataset(frame(["gone.png"], [None], [0]))


def test_a_mask_of_another_size_is_an_error_on_reading(tmp_path: Path) -> None:
    image, mask = image_file(tmp_path / "a.png"), image_file(tmp_path / "mask.png", size=(4, 8))

    with pytest.raises(ValueError, match=r"mask\.png is 8 x 4 pixels, but its image .*a\.png is 8 x 8"):
        CategoryDataset(frame([image], [mask], [1]))[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_empty_masks_are_counted_in_one_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    images = [image_file(tmp_path / f"{number}.png") for number in range(4)]
    empty, full = image_file(tmp_path / "empty.png", level=0), image_file(tmp_path / "full.png")
    dataset = CategoryDataset(frame(images, [empty, empty, empty, full], [1, 1, 1, 1]))
    loader = DataLoader(dataset, num_workers=workers, collate_fn=dataset.collate_fn)
    handler = logging.StreamHandler()  # To the captured stderr, which the workers inherit.
    logging.getLogger("anomalib_zsad.data").addHandler(handler)

    labels = [bool(batch.gt_label) for _ in range(2) for batch in loader]
    logging.getLogger("anomalib_zsad.data").removeHandler(handler)

    assert labels == [True] * 8
    assert capfd.readouterr().err.count("Of 4 anomalous images 3 have an empty mask and 1 one that marks") == 1


def test_a_table_of_anomalib_follows_the_rules_of_masks_and_files(tmp_path: Path) -> None:
    for name in ("good", "bad", "mask"):
        (tmp_path / name).mkdir()
    for name in ("good/0.png", "bad/1.png", "bad/._1.png"):
        image_file(tmp_path / name)
    levels = np.zeros((8, 8), dtype=np.uint8)
    levels[2:6, 2:6], levels[:2] = 255, 100
    for name in ("mask/1.jpg", "mask/._1.jpg"):
        Image.fromarray(levels).save(tmp_path / name, quality=100)
    stock = FolderDataset(
        "parts", tmp_path / "good", abnormal_dir=tmp_path / "bad", mask_dir=tmp_path / "mask", split="test"
    )

    (item,) = take_over(stock, "parts")

    assert Path(item.image_path).name == "1.png"
    assert item.gt_mask.sum() == 16
