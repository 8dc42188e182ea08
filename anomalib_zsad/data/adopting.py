"""Applying the rules of this package for images to datasets and loaders of anomalib and of users."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataModule, AnomalibDataset, ImageItem, PredictDataset
from anomalib.data.transforms.utils import extract_transforms_by_type
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Resize, Transform

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.categories import is_read_here, take_over
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.item import ANY_CATEGORY, CategoryBatch, category_of
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.image_files import foreign_among
from anomalib_zsad.seam.datamodules import read_as
from anomalib_zsad.seam.trainers import change_batch_size, change_loaders, loaders_given_to, replace_dataset

_SPLITS = ("train_data", "val_data", "test_data")


class ImageFiles(PredictDataset):
    """anomalib's dataset of image files, read as in training: upright, any bit depth, errors that name the file.

    Args:
        path: An image, or a folder of images.
        transform: Applied to every image.
        eval_batch_size: Batch size of a prediction if the loader has batches of 1, as anomalib's has.

    Example:
        `anomalib predict ... --data ImageFiles --data.path ./images --data.eval_batch_size 32`
    """

    eval_batch_size: int = 8

    @arg.checked
    def __init__(
        self, path: str | Path, transform: Transform | None = None, eval_batch_size: arg.Images = eval_batch_size
    ) -> None:
        super().__init__(path, transform)
        self.image_filenames = _without_foreign(self.image_filenames)
        self.eval_batch_size = eval_batch_size

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image."""
        path = self.image_filenames[index]
        image = read_image(path)
        return ImageItem(image=self.transform(image) if self.transform else image, image_path=str(path))


@dataclass(frozen=True)
class OneSize:
    """Collates items; images of several sizes are resized one by one before, with the resize of the model.

    anomalib would resize them to the largest of the batch first, so that scores depended on the other images.

    Args:
        collate: Collates items of one size.
        resize: The resize of the model.
    """

    collate: Callable[[Any], Any]
    resize: Transform

    def __call__(self, items: Any) -> Any:
        """Make a batch."""
        are_images = isinstance(items, Sequence) and all(isinstance(item, ImageItem) for item in items)
        if are_images and len({tuple(item.image.shape[-2:]) for item in items}) > 1:
            items = [self._resized(item) for item in items]
        return self.collate(items)

    def _resized(self, item: ImageItem) -> ImageItem:
        parts = {name: getattr(item, name, None) for name in ("image", "gt_mask", "soft_mask")}
        parts = {name: part for name, part in parts.items() if part is not None}
        return item.update(in_place=False, **dict(zip(parts, self.resize(*parts.values(), None), strict=False)))


def adopt(trainer: Trainer, pre_processor: Any) -> None:
    """Apply the rules of this package to all images that a trainer is about to read.

    To be called in `setup`: in later hooks workers may be running.

    Args:
        trainer: With its datamodule or its loaders.
        pre_processor: The model's. The resizing in its `transform` brings images of several sizes to one.
    """
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    if isinstance(datamodule, AnomalibDataModule):
        adopt_splits(datamodule)
    for loader in loaders_given_to(trainer):
        _adopt_dataset(loader)
        if isinstance(loader.dataset, ImageFiles) and loader.batch_size == 1 and resizes_of(pre_processor):
            change_batch_size(loader, loader.dataset.eval_batch_size)
    change_loaders(trainer, partial(_bring_to_one_size, trainer, pre_processor))


def adopt_splits(datamodule: AnomalibDataModule) -> None:
    """Apply the rules of this package to the splits of a datamodule that is set up."""
    known: dict[int, AnomalibDataset] = {}  # two splits may be one dataset
    for split in _SPLITS:
        dataset = getattr(datamodule, split, None)
        if dataset is not None and is_read_here(dataset):
            ours = known.setdefault(id(dataset), _taken_over(dataset, category_of(datamodule)))
            setattr(datamodule, split, ours)


def adopt_files(dataset: PredictDataset) -> None:
    """Apply the rules of this package to an existing dataset of anomalib.

    Args:
        dataset: Changed in place, since a loader does not allow another dataset.
    """
    if type(dataset) is PredictDataset:
        read_as(dataset, ImageFiles)
        dataset.image_filenames = _without_foreign(dataset.image_filenames)


def resizes_of(pre_processor: Any) -> list[Resize]:
    """List the resizing of a pre-processor: none where it leaves images of several sizes as they are."""
    return extract_transforms_by_type(getattr(pre_processor, "transform", None), Resize)


def _without_foreign(paths: list[Any]) -> list[Any]:
    ours = [path for path, foreign in zip(paths, foreign_among(paths), strict=True) if not foreign]
    return ours or paths  # a file that was named explicitly is used


def _adopt_dataset(loader: DataLoader) -> None:
    dataset: Any = loader.dataset
    if isinstance(dataset, PredictDataset):
        adopt_files(dataset)
    elif is_read_here(dataset) and loader.collate_fn == dataset.collate_fn:
        ours = _taken_over(dataset, dataset.category or ANY_CATEGORY)
        dataset.samples = ours.samples  # the loader's sampler has their number
        replace_dataset(loader, ours)
        loader.collate_fn = CategoryBatch.collate


def _taken_over(dataset: AnomalibDataset, category: str) -> CategoryDataset:
    ours = take_over(dataset, category)
    ours.augmentations = dataset.augmentations
    ours.origin = dataset
    return ours


def _bring_to_one_size(trainer: Trainer, pre_processor: Any, loader: Any) -> None:
    """Bring the images of a batch to the model's size; where images keep their size, make each a batch of its own."""
    # A checkpoint, which is read after `setup`, may have brought another size.
    if not isinstance(loader, DataLoader):
        return
    of_training = getattr(pre_processor, "train_transform", None)
    resizes = resizes_of(pre_processor)
    if of_training is not None and trainer.training:
        (resize,) = extract_transforms_by_type(of_training, Resize)
        _resize_in_dataset(loader.dataset, resizes, resize)
        resizes = [resize]
    if resizes:
        collate: Any = loader.collate_fn
        loader.collate_fn = OneSize(collate.collate if isinstance(collate, OneSize) else collate, resizes[0])
    elif of_training is not None and loader.batch_size not in {None, 1}:
        change_batch_size(loader, 1)


def _resize_in_dataset(dataset: Any, others: Sequence[Resize], resize: Resize) -> None:
    """Make a dataset resize its images, in the workers, to another size than anomalib has set."""
    if not isinstance(dataset, AnomalibDataset):
        return
    known = dataset.augmentations
    steps = known.transforms if isinstance(known, Compose) else [] if known is None else [known]
    steps = [step for step in steps if not any(step is other for other in others)]
    dataset.augmentations = Compose([*steps, resize])
