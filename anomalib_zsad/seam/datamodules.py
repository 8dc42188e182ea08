"""What anomalib's datamodules and datasets keep to themselves: how they are set up, and their tables."""

import copy
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import TestSplitMode
from lightning.pytorch.trainer.states import TrainerFn

_SPLITS = ("train_data", "val_data", "test_data")


class ReadsSplits(ABC):
    """A datamodule that reads its splits in `read_splits`; it stands before anomalib's class among the bases."""

    @abstractmethod
    def read_splits(self, stage: str | None = None) -> None:
        """Set the datasets of a stage: `train_data`, `test_data` and, where it is another one, `val_data`."""

    def _setup(self, _stage: str | None = None) -> None:
        self.read_splits(_stage)


class SplitAsGiven(ReadsSplits, AnomalibDataModule):
    """A datamodule that keeps its split whatever the split modes, so that anomalib's own models can use it too.

    anomalib's `setup` would take the normal images out of a test set in one mode, and in the other fail on a test set
    without normal images.

    Args:
        name: The dataset's name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(train_batch_size=1, eval_batch_size=1, num_workers=0)
        self._name = name

    @property
    def name(self) -> str:  # type: ignore[override]
        """The dataset's name."""
        return self._name

    def _create_test_split(self) -> None:
        """Keep the test images as they are."""

    def _create_val_split(self) -> None:
        self.val_data = self.test_data


def read_all_tests(datamodule: AnomalibDataModule) -> None:
    """Read the splits of a datamodule of one category, with all its test images.

    anomalib's own `setup` takes a share of the test images for validation in some datamodules (`Folder`), and drops
    the normal ones in others (`TestSplitMode.NONE`).
    """
    datamodule._setup(TrainerFn.TESTING)
    can_split = datamodule.test_data.has_normal or hasattr(datamodule, "train_data")
    if datamodule.test_split_mode != TestSplitMode.NONE and can_split:
        datamodule._create_test_split()


def sibling(datamodule: AnomalibDataModule, category: str) -> AnomalibDataModule:
    """Copy a datamodule of one category for another one: nothing is derived from the category before `setup`."""
    other = copy.copy(datamodule)
    other.category = category
    other.trainer = None
    other._is_setup = False
    for split in _SPLITS:
        if hasattr(other, split):
            delattr(other, split)
    return other


def update_augmentations(datamodule: AnomalibDataModule) -> None:
    """Give the datasets of a datamodule its augmentations and the resizing of the model that is trained."""
    datamodule._update_augmentations()


def categories_beside(datamodule: AnomalibDataModule) -> list[str] | None:
    """Find the categories that anomalib keeps as `CATEGORIES` beside its dataset classes; None where it has none."""
    for ancestor in type(datamodule).__mro__:
        for dataset in vars(sys.modules[ancestor.__module__]).values():
            if inspect.isclass(dataset) and issubclass(dataset, AnomalibDataset):
                known: Sequence[str] = getattr(sys.modules[dataset.__module__], "CATEGORIES", ())
                if datamodule.category in known:
                    return list(known)
    return None


def set_samples(dataset: AnomalibDataset, samples: pd.DataFrame) -> None:
    """Set the table of a dataset, as anomalib's setter does, which requires a file for every image."""
    dataset._samples = samples.sort_values(by="image_path", ignore_index=True)


def read_as(dataset: Any, kind: type) -> None:
    """Make a dataset one of another class with the same attributes, in place: loaders do not let it be replaced."""
    dataset.__class__ = kind
