"""One dataset over several categories, whatever anomalib dataset each of them comes from."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset
from anomalib.data.datasets.image.mvtec_loco import MVTecLOCODataset
from anomalib.data.utils import LabelName
from lightning.pytorch.utilities.seed import isolate_rng
from torchvision import tv_tensors

from anomalib_zsad.data.item import CategoryBatch, CategoryItem
from anomalib_zsad.data.reading import is_there, read_image, read_mask
from anomalib_zsad.data.soft_mask import SoftMask
from anomalib_zsad.functional.seeds import seed_of
from anomalib_zsad.image_files import foreign_among
from anomalib_zsad.printing import printable
from anomalib_zsad.seam.datamodules import set_samples
from anomalib_zsad.seam.tables import repair_tables

logger = logging.getLogger(__name__)
repair_tables()

READ_HERE = (AnomalibDataset.__getitem__, MVTecLOCODataset.__getitem__)
"""How datasets of anomalib read samples, which this package does by its own rules; a user's may do otherwise."""

Pair = tuple[tv_tensors.Image, tv_tensors.Mask | None]


class CategoryDataset(AnomalibDataset):
    """Labelled images of any number of categories, each sample with the name of its own.

    With `soft_masks` every sample also has its mask resized as the image is (`SoftMask`).

    Args:
        samples: One row an image: `image_path`, `split`, `label_index`, `mask_path` and `category`, and where they
            differ from the default `mask_threshold` (`reading.mask_threshold`) and `group` (near-duplicates that a
            split keeps together).
        foreign: Where the images of datasets that read their samples in a way of their own come from: path to
            dataset and index.

    Raises:
        FileNotFoundError: An image, or the mask of an anomalous one, does not exist.
        ValueError: An anomalous image has no mask while others of its category have one.
    """

    soft_masks = False

    def __init__(
        self,
        samples: pd.DataFrame,
        foreign: Mapping[str, tuple[AnomalibDataset, int]] | None = None,
    ) -> None:
        super().__init__()
        self.foreign = dict(foreign or {})
        self.seed = 0
        self.epoch = 0
        self.origin: AnomalibDataset | None = None  # kept, because anomalib deletes drawn anomalies with their dataset
        task = samples.attrs.get("task", TaskType.CLASSIFICATION.value)
        samples = samples.assign(
            image_path=samples["image_path"].map(str),
            mask_path=samples["mask_path"].astype(object).map(_mask_path),
        )
        _check_images_exist(samples)
        samples.attrs["task"] = _task(samples, otherwise=task)
        if samples.attrs["task"] == TaskType.SEGMENTATION.value:
            _check_masks_exist(samples[~samples["image_path"].isin(self.foreign)])
        set_samples(self, samples)  # drawn pictures have no file
        # In shared memory, so that one worker's warning silences all of them, in every epoch.
        self._warned_of_masks = torch.zeros(1, dtype=torch.bool).share_memory_()

    @classmethod
    def of(cls, dataset: AnomalibDataset, category: str) -> "CategoryDataset":
        """Take over the samples of an anomalib dataset, without files that systems keep for themselves.

        Args:
            dataset: Any image dataset. One of a user that overrides `__getitem__` goes on reading its own samples.
            category: The category of all its samples, where they do not carry their own.
        """
        if isinstance(dataset, cls):
            return dataset
        reads_itself = type(dataset).__getitem__ not in READ_HERE
        paths = dataset.samples["image_path"] if reads_itself else ()
        if reads_itself:
            dataset.augmentations = None  # They are applied here, once.
        samples = dataset.samples[~np.array(foreign_among(list(dataset.samples["image_path"])), dtype=bool)]
        return cls(samples.assign(category=category), {str(path): (dataset, i) for i, path in enumerate(paths)})

    @classmethod
    def concatenate(cls, datasets: Sequence["CategoryDataset"]) -> "CategoryDataset":
        """Put datasets one after the other."""
        samples = pd.concat([dataset.samples for dataset in datasets], ignore_index=True)
        samples.attrs["task"] = datasets[0].samples.attrs["task"]
        return cls(samples, {path: source for dataset in datasets for path, source in dataset.foreign.items()})

    @property
    def categories(self) -> list[str]:
        """The names of the categories, sorted."""
        return sorted(self.samples["category"].unique())

    @property
    def collate_fn(self) -> Callable:
        """Collate items into a `CategoryBatch`."""
        return CategoryBatch.collate

    def subsample(self, indices: Sequence[int] | np.ndarray, inplace: bool = False) -> "CategoryDataset":
        """Choose samples by their position."""
        if len(np.unique(indices)) != len(indices):
            msg = f"Expected every index once, got {list(indices)}."
            raise ValueError(msg)
        chosen = self.samples.iloc[np.asarray(indices, dtype=int)].reset_index(drop=True)
        if not inplace:
            return CategoryDataset(chosen, self.foreign)
        set_samples(self, chosen)
        return self

    def __add__(self, other_dataset: AnomalibDataset) -> "CategoryDataset":  # type: ignore[override]
        if not isinstance(other_dataset, CategoryDataset):
            msg = f"Expected a CategoryDataset to concatenate, got {type(other_dataset).__name__}."
            raise TypeError(msg)
        return self.concatenate([self, other_dataset])

    def __getitem__(self, index: int) -> CategoryItem:
        row = self.samples.iloc[index]
        image, mask = self._foreign_pair(row) if row.image_path in self.foreign else self._own_pair(row)
        soft = SoftMask.of(mask) if self.soft_masks and mask is not None else None
        if self.augmentations:
            image, mask, soft = self._varied(self.augmentations, index, image, mask, soft)
        return CategoryItem(
            image=image,
            gt_mask=mask,
            gt_label=None if row.label_index == LabelName.UNKNOWN else torch.tensor(int(row.label_index)),
            image_path=row.image_path,
            mask_path=_first(row.mask_path),
            category=row.category,
            index=int(index),
            soft_mask=soft,
        )

    def _varied(self, vary: Callable, index: int, *parts: tv_tensors.TVTensor | None) -> tuple[Any, ...]:
        """Apply the augmentations; what they draw depends on the seed, the epoch and the image alone."""
        with isolate_rng(include_cuda=False):
            seed = seed_of("augmentation", self.seed, self.epoch, index)
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002  # what transforms of other packages may draw from
            random.seed(seed)
            return vary(*parts)

    def _own_pair(self, row: pd.Series) -> Pair:
        image = read_image(row.image_path)
        if self.task != TaskType.SEGMENTATION or row.label_index == LabelName.UNKNOWN:
            return image, None
        if row.label_index == LabelName.NORMAL:
            return image, tv_tensors.Mask(torch.zeros(image.shape[-2:], dtype=torch.uint8))
        mask = _mask_of(row, tuple(image.shape[-2:]))
        if mask.all() or not mask.any():
            self._warn_of_masks(row)
        return image, mask

    def _foreign_pair(self, row: pd.Series) -> Pair:
        dataset, index = self.foreign[row.image_path]
        item = dataset[index]
        return item.image, item.gt_mask if self.task == TaskType.SEGMENTATION else None

    def _warn_of_masks(self, row: pd.Series) -> None:
        if self._warned_of_masks:
            return
        self._warned_of_masks.fill_(True)
        anomalous = self.samples[self.samples["label_index"] == LabelName.ABNORMAL]
        own = anomalous[~anomalous["image_path"].isin(self.foreign)]
        masks = [_mask_of(each) for _, each in own.iterrows()]
        logger.warning(
            "Of %d anomalous images %d have an empty mask and %d one that marks the whole image (%s is one): they stay "
            "anomalous, and their pixels count as their masks say.",
            len(anomalous),
            sum(not mask.any() for mask in masks),
            sum(bool(mask.all()) for mask in masks),
            printable(_first(row.mask_path)),
        )


def _mask_of(row: pd.Series, size: tuple[int, int] | None = None) -> tv_tensors.Mask:
    size = size or tuple(read_image(row.image_path).shape[-2:])
    threshold = row.get("mask_threshold")
    level = None if pd.isna(threshold) else int(threshold)
    paths = [row.mask_path] if isinstance(row.mask_path, str) else row.mask_path
    masks = [read_mask(path, row.image_path, size, level) for path in paths]
    return tv_tensors.Mask(torch.stack(masks).amax(0))


def _first(path: str | list[str]) -> str:
    return path if isinstance(path, str) else path[0]


def _mask_path(path: object) -> str | list[str]:
    # A missing one is None, NaN or "", depending on the dataset; MVTec LOCO has a list of them.
    if isinstance(path, str | list):
        return path
    return str(path) if isinstance(path, Path) else ""


def _task(samples: pd.DataFrame, otherwise: str) -> str:
    # anomalib's own answer is "segmentation" even where its loaders found no mask at all.
    anomalous = samples[samples["label_index"] == LabelName.ABNORMAL]
    if anomalous.empty:
        return otherwise
    has_masks = (anomalous["mask_path"] != "").groupby(anomalous["category"]).any()
    if not has_masks.all() and has_masks.any():
        logger.warning(
            "No masks in %s: all categories are used without masks. Choose the others with `categories` to use theirs.",
            printable(", ".join(has_masks.index[~has_masks])),
        )
    return (TaskType.SEGMENTATION if has_masks.all() else TaskType.CLASSIFICATION).value


def _check_images_exist(samples: pd.DataFrame) -> None:
    for path in samples["image_path"]:
        if not is_there(path):
            msg = f"Image {path} is listed in its dataset but does not exist."
            raise FileNotFoundError(msg)


def _check_masks_exist(samples: pd.DataFrame) -> None:
    anomalous = samples[samples["label_index"] == LabelName.ABNORMAL]
    for image, mask, category in zip(
        anomalous["image_path"], anomalous["mask_path"], anomalous["category"], strict=True
    ):
        if not mask:
            msg = f"Anomalous image {image} has no mask, while others of {category} have one."
            raise ValueError(msg)
        missing = next((path for path in ([mask] if isinstance(mask, str) else mask) if not is_there(path)), None)
        if missing is not None:
            msg = f"Mask {missing} of anomalous image {image} does not exist."
            raise FileNotFoundError(msg)
