"""MVTec AD as a dataset to train on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataModule, MVTecAD

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.labelled_category import by_split
from anomalib_zsad.data.layouts import StateFolders
from anomalib_zsad.seam.datamodules import ReadsSplits


class MVTec(Auxiliary):
    """Train on the labelled test images of MVTec AD, 15 categories; or test on them.

    Args:
        root: The folder with one folder a category. anomalib downloads the dataset where the root does not exist.
        categories: The categories to use. None: all that are there.
        target: The datamodule to test on.
        val_ratio: The share of the images held out for validation.
        **plumbing: Batch sizes, workers, augmentations and seed, as in `CategoryDataModule`.

    Example:
        >>> from anomalib_zsad import MVTec, VisA
        >>> datamodule = MVTec("./datasets/MVTecAD", target=VisA("./datasets/visa"))
    """

    @arg.checked
    def __init__(
        self,
        root: str | Path = "./datasets/MVTecAD",
        categories: Sequence[str] | None = None,
        target: AnomalibDataModule | None = None,
        val_ratio: arg.ShareBelowOne = 0.1,
        **plumbing: Any,
    ) -> None:
        super().__init__(_MVTecCategory(root), categories, target, val_ratio, **plumbing)


class _MVTecCategory(ReadsSplits, MVTecAD):
    """anomalib's datamodule, which downloads, with this package's reader.

    anomalib's own would take hidden files for images, and download the dataset into a root that lacks one category.
    """

    @property
    def name(self) -> str:  # type: ignore[override]
        return "MVTec"

    def prepare_data(self) -> None:
        if self.root.exists() and not (self.root / self.category).is_dir():
            msg = (
                f"No MVTec AD category at {self.root / self.category}: expected {self.root} to hold <category>/train, "
                "<category>/test and <category>/ground_truth, as in the download from mvtec.com."
            )
            raise FileNotFoundError(msg)
        super().prepare_data()

    def read_splits(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read both splits."""
        samples = StateFolders().read((self.root / self.category).resolve())
        self.train_data, self.test_data = by_split(samples.assign(category=self.category))
