"""One category of a dataset whose samples somebody else has labelled and split."""

from abc import ABC, abstractmethod

import pandas as pd
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.seam.datamodules import SplitAsGiven


class LabelledCategory(SplitAsGiven, ABC):
    """A category whose samples a list, or the layout of folders, has labelled and split."""

    @abstractmethod
    def has_category(self, category: str) -> bool:
        """Tell whether a category is there."""

    @abstractmethod
    def read(self) -> pd.DataFrame:
        """List the samples of this datamodule's category, of both splits."""

    def read_splits(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read both splits."""
        self.train_data, self.test_data = by_split(self.read().assign(category=self.category))


def by_split(samples: pd.DataFrame) -> tuple[CategoryDataset, CategoryDataset]:
    """Make datasets of the normal training images and of the test images of one category."""
    training, tested = (samples[samples["split"] == split.value].copy() for split in (Split.TRAIN, Split.TEST))
    test_data = CategoryDataset(tested)
    # Normal images alone do not show whether there are masks.
    training.attrs["task"] = test_data.task.value
    return CategoryDataset(training[training["label_index"] == LabelName.NORMAL]), test_data
