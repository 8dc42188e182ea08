"""One dataset over several categories of any datasets of anomalib."""

import copy
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset
from anomalib.data.utils import LabelName
from lightning.pytorch.utilities.seed import isolate_rng
from torchvision import tv_tensors

from anomalib_zsad.data.item import CategoryBatch, CategoryItem
from anomalib_zsad.data.reading import read_image, read_mask
from anomalib_zsad.data.soft_mask import SoftMask
from anomalib_zsad.functional.seeds import seed_of
from anomalib_zsad.image_files import missing_among
from anomalib_zsad.printing import printable
from anomalib_zsad.seam.datamodules import set_samples

logger = logging.getLogger(__name__)

Pair = tuple[tv_tensors.Image, tv_tensors.Mask | None]


class CategoryDataset(AnomalibDataset):
    """Labelled images of any number of categories, each sample with its category.

    With a kind of `SoftMask` in `soft_masks` every sample also has its mask resized as images are.

    Args:
        samples: One row an image, as `Source.read` lists them, with a column `category`; `mask_path` may be a list.
        task: Whether there are masks, if no image is anomalous. None: that of `samples.attrs`, else none.

    Raises:
        FileNotFoundError: An image, or the mask of an anomalous one, does not exist.
        ValueError: An anomalous image has no mask while others of its category have one.
    """

    soft_masks: type[SoftMask] | None = None

    def __init__(self, samples: pd.DataFrame, task: str | None = None) -> None:
        self._start()
        samples = samples.assign(
            image_path=samples["image_path"].map(str),
            mask_path=samples["mask_path"].astype(object).map(_mask_path),
        )
        self._keep(samples, task or samples.attrs.get("task", TaskType.CLASSIFICATION.value))
        _check_files(self.samples, self.task == TaskType.SEGMENTATION)

    @classmethod
    def concatenate(cls, datasets: Sequence["CategoryDataset"]) -> "CategoryDataset":
        """Concatenate datasets."""
        return datasets[0]._with(pd.concat([dataset.samples for dataset in datasets], ignore_index=True))

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
            return self._with(chosen)
        self._keep(chosen, self.task)
        return self

    def __add__(self, other_dataset: AnomalibDataset) -> "CategoryDataset":  # type: ignore[override]
        if not isinstance(other_dataset, CategoryDataset):
            msg = f"Expected a CategoryDataset to concatenate, got {type(other_dataset).__name__}."
            raise TypeError(msg)
        return self.concatenate([self, other_dataset])

    def __getitem__(self, index: int) -> CategoryItem:
        row = self.samples.iloc[index]
        image, mask = self._pair(row)
        soft = self.soft_masks.of(mask) if self.soft_masks is not None and mask is not None else None
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
        """Apply the augmentations, whose random numbers depend on the seed, the epoch and the image alone."""
        with isolate_rng(include_cuda=False):
            seed = seed_of("augmentation", self.seed, self.epoch, index)
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002  # what transforms of other packages may draw from
            random.seed(seed)
            return vary(*parts)

    def _start(self) -> None:
        super().__init__()
        self.seed = 0
        self.epoch = 0
        self.origin: AnomalibDataset | None = None  # kept, because anomalib deletes drawn anomalies with their dataset
        # In shared memory, so that one worker's warning silences all of them, in every epoch.
        self._warned_of_masks = torch.zeros(1, dtype=torch.bool).share_memory_()

    def _with(self, samples: pd.DataFrame) -> "CategoryDataset":
        """Make a dataset of samples without checking their files again."""
        other = copy.copy(self)
        other._start()
        other._keep(samples, self.task)
        return other

    def _keep(self, samples: pd.DataFrame, task: str) -> None:
        samples.attrs["task"] = TaskType(_task(samples, otherwise=task)).value
        set_samples(self, samples)

    def _pair(self, row: pd.Series) -> Pair:
        if _has_reader(row):
            image, mask = row.reader.read()
            return image, mask if self.task == TaskType.SEGMENTATION else None
        image = read_image(row.image_path)
        if self.task != TaskType.SEGMENTATION or row.label_index == LabelName.UNKNOWN:
            return image, None
        if row.label_index == LabelName.NORMAL:
            return image, tv_tensors.Mask(torch.zeros(image.shape[-2:], dtype=torch.uint8))
        mask = _mask_of(row, tuple(image.shape[-2:]))
        if mask.all() or not mask.any():
            self._warn_of_masks(row)
        return image, mask

    def _warn_of_masks(self, row: pd.Series) -> None:
        if self._warned_of_masks:
            return
        self._warned_of_masks.fill_(True)
        anomalous = self.samples[self.samples["label_index"] == LabelName.ABNORMAL]
        masks = [_mask_of(sample) for _, sample in anomalous.iterrows() if not _has_reader(sample)]
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


def _has_reader(row: pd.Series) -> bool:
    return not pd.isna(row.get("reader"))


def _check_files(samples: pd.DataFrame, with_masks: bool) -> None:
    if "reader" in samples:
        samples = samples[samples["reader"].isna()]
    anomalous = samples[samples["label_index"] == LabelName.ABNORMAL] if with_masks else samples.iloc[:0]
    masks = {
        image: [mask] if isinstance(mask, str) else mask
        for image, mask in zip(anomalous["image_path"], anomalous["mask_path"], strict=True)
    }
    if unmasked := next((image for image, paths in masks.items() if not any(paths)), None):
        category = anomalous["category"][anomalous["image_path"] == unmasked].iloc[0]
        msg = f"Anomalous image {unmasked} has no mask, while others of {category} have one."
        raise ValueError(msg)
    missing = missing_among([*samples["image_path"], *(path for paths in masks.values() for path in paths)])
    for image in samples["image_path"] if missing else ():
        if image in missing:
            msg = f"Image {image} is listed in its dataset but does not exist."
            raise FileNotFoundError(msg)
        if lost := missing.intersection(masks.get(image, ())):
            msg = f"Mask {min(lost)} of anomalous image {image} does not exist."
            raise FileNotFoundError(msg)
