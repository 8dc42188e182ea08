"""Datamodules of anomalib, of users and of this package as categories, each with a table of samples."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.datasets.image.mvtec_loco import MVTecLOCODataset
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.item import category_of
from anomalib_zsad.data.source import Source
from anomalib_zsad.image_files import foreign_among
from anomalib_zsad.seam.datamodules import SplitAsGiven, categories_beside, read_all_tests, sibling
from anomalib_zsad.seam.tables import repair_tables

logger = logging.getLogger(__name__)
repair_tables()

Parts = Mapping[str, AnomalibDataModule]
"""Datamodules of one category each, by its name."""

_READ_HERE = (AnomalibDataset.__getitem__, MVTecLOCODataset.__getitem__)
"""The readers of anomalib's datasets, which the rules of this package replace; those of users are kept."""


def one_category(source: Source, category: str = "") -> AnomalibDataModule:
    """Make a datamodule of one category of a dataset that this package reads; models of anomalib can use it, too."""
    return _Category(source, category)


def category_names(datamodule: AnomalibDataModule) -> list[str]:
    """Return all categories of the dataset of a datamodule, on the disk or not.

    anomalib has them in the constant `CATEGORIES` of the module of the dataset class; a user's datamodule may have an
    attribute `categories`. Otherwise the category of the datamodule is the only one.
    """
    own = datamodule.origin.categories if isinstance(datamodule, _Category) else getattr(datamodule, "categories", None)
    return list(own or categories_beside(datamodule) or [category_of(datamodule)])


def parts_of(datamodule: AnomalibDataModule, categories: Sequence[str] | None = None) -> Parts:
    """Split a datamodule into one for each of its categories.

    Args:
        datamodule: Any image datamodule of anomalib or of this package, set up or not. It is not changed.
        categories: The categories to use. None: all whose folder exists, or all of the dataset if none does.

    Returns:
        Category to datamodule, in the dataset's order.

    Raises:
        ValueError: A category is unknown.
    """
    if hasattr(datamodule, "parts"):
        parts = datamodule.parts()
    else:
        names = category_names(datamodule)
        parts = {name: _sibling(datamodule, name) for name in (names if categories else _present(datamodule, names))}
    return _chosen(parts, categories, datamodule.name) if categories else parts


def samples_of(parts: Parts, split: Split, seed: int) -> pd.DataFrame:
    """List the samples of several categories: all test samples, or the normal training samples.

    Args:
        parts: The categories.
        split: For training or testing.
        seed: As in `load`.
    """
    tables = [_table(part, name, seed) for name, part in parts.items()]
    samples = pd.concat([table[table["split"] == split.value] for table in tables], ignore_index=True)
    samples.attrs = dict(tables[0].attrs)
    return samples if split == Split.TEST else samples[samples["label_index"] == LabelName.NORMAL]


def take_over(dataset: AnomalibDataset, category: str) -> CategoryDataset:
    """Convert a dataset to one of this package.

    Args:
        dataset: Any image dataset. A user's that overrides `__getitem__` still reads its samples itself.
        category: The category of all its samples, unless they have their own.
    """
    return dataset if isinstance(dataset, CategoryDataset) else CategoryDataset(_adopted(dataset, category))


def is_read_here(dataset: Any) -> bool:
    """Whether this package reads the samples of a dataset of anomalib by its own rules."""
    return isinstance(dataset, AnomalibDataset) and type(dataset).__getitem__ in _READ_HERE


def load(part: AnomalibDataModule, seed: int) -> None:
    """Set up one category with all its test images.

    Args:
        part: One category, from `parts_of`.
        seed: Seed of the choice of normal test images for a dataset without any, unless the part has a seed.
    """
    if hasattr(part, "test_data"):
        return
    part.seed = seed if part.seed is None else part.seed
    read_all_tests(part)


class _Category(SplitAsGiven):
    """One category of a source, with the source's split."""

    def __init__(self, source: Source, category: str) -> None:
        super().__init__(source.name)
        self.origin, self.category = source, category

    @property
    def root(self) -> Path | None:
        return self.origin.root

    @cached_property
    def samples(self) -> pd.DataFrame:
        return self.origin.read(self.category).assign(category=self.category)

    def prepare_data(self) -> None:
        self.origin.prepare(self.category)

    def read_splits(self, stage: str | None = None) -> None:  # noqa: ARG002
        part = {self.category: self}
        self.test_data = CategoryDataset(samples_of(part, Split.TEST, 0))
        self.train_data = CategoryDataset(samples_of(part, Split.TRAIN, 0), self.test_data.task)


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads a sample by its dataset's own `__getitem__`."""

    dataset: AnomalibDataset
    index: int

    def read(self) -> tuple[Any, Any]:
        item = self.dataset[self.index]
        return item.image, item.gt_mask


def _table(part: AnomalibDataModule, category: str, seed: int) -> pd.DataFrame:
    if isinstance(part, _Category):
        return part.samples
    load(part, seed)
    splits = {Split.TEST: part.test_data, Split.TRAIN: getattr(part, "train_data", None)}
    tables = [_adopted(data, category).assign(split=split.value) for split, data in splits.items() if data is not None]
    samples = pd.concat(tables, ignore_index=True)
    samples.attrs = dict(tables[0].attrs)
    return samples


def _adopted(dataset: AnomalibDataset, category: str) -> pd.DataFrame:
    """List the samples of a dataset, without hidden and system files."""
    if isinstance(dataset, CategoryDataset):
        return dataset.samples
    samples = dataset.samples.assign(category=category)
    if not is_read_here(dataset):
        dataset.augmentations = None  # They are applied here, once.
        readers: list[Any] = [_Reader(dataset, i) for i in range(len(samples))]
        samples = samples.assign(reader=readers)
    return samples[~np.array(foreign_among(list(samples["image_path"])), dtype=bool)]


def _sibling(datamodule: AnomalibDataModule, category: str) -> AnomalibDataModule:
    if isinstance(datamodule, _Category):
        return _Category(datamodule.origin, category)
    return sibling(datamodule, category)


def _present(datamodule: AnomalibDataModule, names: list[str]) -> list[str]:
    root = getattr(datamodule, "root", None)
    roots = [Path(each) for each in (root, getattr(datamodule, "split_root", None)) if each]
    if isinstance(datamodule, _Category):
        present = list(filter(datamodule.origin.has_category, names))
    else:
        present = [name for name in names if any((each / name).is_dir() for each in roots)]
    if present and len(present) < len(names):
        absent = ", ".join(name for name in names if name not in present)
        logger.warning("%s at %s lacks %s: using the other categories.", datamodule.name, root, absent)
    return present or names


def _chosen(parts: Parts, categories: Sequence[str], name: str) -> Parts:
    unknown = [category for category in categories if category not in parts]
    if unknown:
        msg = f"Unknown category {', '.join(map(repr, unknown))} of {name}, expected some of: {', '.join(parts)}."
        raise ValueError(msg)
    return {category: part for category, part in parts.items() if category in categories}
