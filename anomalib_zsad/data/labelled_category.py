"""One category of a dataset whose samples somebody else has labelled and split."""

from abc import ABC, abstractmethod

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.category_dataset import CategoryDataset


class SplitAsGiven(AnomalibDataModule):
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


class LabelledCategory(SplitAsGiven, ABC):
    """A category whose samples a list, or the layout of folders, has labelled and split."""

    @abstractmethod
    def has_category(self, category: str) -> bool:
        """Tell whether a category is there."""

    @abstractmethod
    def read(self) -> pd.DataFrame:
        """List the samples of this datamodule's category, of both splits."""

    def _setup(self, _stage: str | None = None) -> None:
        self.train_data, self.test_data = by_split(self.read().assign(category=self.category))


def by_split(samples: pd.DataFrame) -> tuple[CategoryDataset, CategoryDataset]:
    """Make datasets of the normal training images and of the test images of one category."""
    training, tested = (samples[samples["split"] == split.value].copy() for split in (Split.TRAIN, Split.TEST))
    test_data = CategoryDataset(tested)
    # Normal images alone do not show whether there are masks.
    training.attrs["task"] = test_data.task.value
    return CategoryDataset(training[training["label_index"] == LabelName.NORMAL]), test_data
