"""Sources: functions from the root of a dataset to a table of samples for each category."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from anomalib.data.utils import LabelName, Split

Row = tuple[Split, LabelName, Path, Path | None]
"""Split, label, image and mask of a sample."""


class Source(ABC):
    """A dataset on the disk."""

    name: str
    root: Path | None

    @property
    @abstractmethod
    def categories(self) -> Sequence[str]:
        """All categories that the dataset has, on the disk or not."""

    def has_category(self, category: str) -> bool:  # noqa: ARG002
        """Whether a category is on the disk, by the names of folders."""
        return True

    def prepare(self, category: str) -> None:  # noqa: B027  (most have nothing to prepare)
        """Find or download a category, once for all processes.

        Raises:
            FileNotFoundError: The category does not exist, and cannot be downloaded.
        """

    @abstractmethod
    def read(self, category: str) -> pd.DataFrame:
        """List the samples of a category: training images, of which the normal ones are used, and test images.

        Returns:
            As `table`; and where they differ from the default `mask_threshold` (`reading.mask_threshold`), `group`
            (near-duplicates that a split keeps together) and `reader` (of a sample without files; its `read()` returns
            the image and the mask).
        """


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Make a table of samples with the columns `split`, `label_index`, `image_path` and `mask_path`, "" for none."""
    samples = [(split.value, int(label), str(image), str(mask or "")) for split, label, image, mask in rows]
    return pd.DataFrame(samples, columns=["split", "label_index", "image_path", "mask_path"])
