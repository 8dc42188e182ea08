"""MVTec AD as a dataset to train on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule, MVTecAD
from anomalib.data.datasets.image.mvtecad import CATEGORIES as MVTEC_AD_CATEGORIES

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.categories import one_category
from anomalib_zsad.data.layouts import StateFolders
from anomalib_zsad.data.source import Source


class MVTec(Auxiliary):
    """Train on the labelled test images of MVTec AD, 15 categories; or test on them.

    Args:
        root: The folder with one folder for each category. anomalib downloads the dataset if the root does not exist.
        categories: The categories to use. None: all on the disk.
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
        super().__init__(one_category(_Download(Path(root))), categories, target, val_ratio, **plumbing)


@dataclass(frozen=True)
class _Download(Source):
    """The download, which anomalib fetches if there is no root; it would also fetch for a missing category."""

    root: Path
    name = "MVTec"
    categories = MVTEC_AD_CATEGORIES

    def has_category(self, category: str) -> bool:
        return (self.root / category).is_dir()

    def prepare(self, category: str) -> None:
        if not self.root.exists():
            MVTecAD(self.root, category).prepare_data()
        if not self.has_category(category):
            msg = (
                f"No MVTec AD category at {self.root / category}: expected {self.root} to hold <category>/train, "
                "<category>/test and <category>/ground_truth, as in the download from mvtec.com."
            )
            raise FileNotFoundError(msg)

    def read(self, category: str) -> pd.DataFrame:
        return StateFolders().read((self.root / category).resolve())
