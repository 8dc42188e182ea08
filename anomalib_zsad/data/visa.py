"""VisA as a dataset to train on, read from the download as it is."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule, VisaDataset
from anomalib.data.datamodules.image.visa import DOWNLOAD_INFO, VISA_CATEGORIES
from anomalib.data.utils import LabelName, Split, download_and_extract

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.image_files import inside
from anomalib_zsad.seam.datamodules import SplitAsGiven

_SPLIT_FILE = Path("split_csv", "1cls.csv")
_RESPLIT_COPY = "visa_pytorch"
_COLUMNS = ["object", "split", "label", "image", "mask"]
_LABELS = {"normal": LabelName.NORMAL, "anomaly": LabelName.ABNORMAL}


class VisA(Auxiliary):
    """Train on the labelled test images of VisA, 12 categories; or test on them.

    The unpacked download is read in place by its `split_csv/1cls.csv`. A root with only anomalib's re-split copy,
    `visa_pytorch`, is read as well.

    Args:
        root: The folder that holds `split_csv` and one folder a category. The dataset is downloaded where the root
            does not exist.
        categories: The categories to use. None: all that are there.
        target: The datamodule to test on.
        val_ratio: The share of the images held out for validation.
        **plumbing: Batch sizes, workers, augmentations and seed, as in `CategoryDataModule`.

    Example:
        >>> from anomalib_zsad import MVTec, VisA
        >>> datamodule = VisA("./datasets/visa", target=MVTec("./datasets/MVTecAD"))
    """

    @arg.checked
    def __init__(
        self,
        root: str | Path = "./datasets/visa",
        categories: Sequence[str] | None = None,
        target: AnomalibDataModule | None = None,
        val_ratio: arg.ShareBelowOne = 0.1,
        **plumbing: Any,
    ) -> None:
        super().__init__(_VisACategory(root), categories, target, val_ratio, **plumbing)


class _VisACategory(SplitAsGiven):
    """One category of VisA.

    Args:
        root: The unpacked download, or the folder with anomalib's re-split copy.
    """

    categories = VISA_CATEGORIES

    def __init__(self, root: str | Path) -> None:
        super().__init__("VisA")
        self.root = Path(root)
        self.split_root = self.root / _RESPLIT_COPY

    def prepare_data(self) -> None:
        if not self.root.exists():
            _download(self.root)
        if not (self.root / self.category).is_dir() and not self._has_copy():
            msg = (
                f"No VisA category at {self.root / self.category}: expected {self.root} to hold the unpacked "
                f"{DOWNLOAD_INFO.url.split('/')[-1]} ({DOWNLOAD_INFO.url})."
            )
            raise FileNotFoundError(msg)

    def read_splits(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read both splits."""
        is_raw = (self.root / _SPLIT_FILE).exists() and (self.root / self.category).is_dir()
        if self._has_copy() and not is_raw:
            self.train_data = VisaDataset(self.split_root, self.category, split=Split.TRAIN)
            self.test_data = VisaDataset(self.split_root, self.category, split=Split.TEST)
            return
        samples = _read_split_file(self.root, self.category)
        self.train_data = CategoryDataset(samples[samples["split"] == Split.TRAIN.value])
        self.test_data = CategoryDataset(samples[samples["split"] == Split.TEST.value])

    def _has_copy(self) -> bool:
        return (self.split_root / self.category / "test").is_dir()


def _read_split_file(root: Path, category: str) -> pd.DataFrame:
    path = root / _SPLIT_FILE
    if not path.exists():
        msg = (
            f"No split file of VisA at {path}: expected it beside the categories, as in the unpacked download "
            f"({DOWNLOAD_INFO.url})."
        )
        raise FileNotFoundError(msg)
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not set(_COLUMNS) <= set(rows.columns):
        msg = f"Split file {path} has the columns {', '.join(rows.columns)}, expected {', '.join(_COLUMNS)}."
        raise ValueError(msg)
    rows = rows[rows["object"] == category]
    unknown = set(rows["label"]) - set(_LABELS)
    if unknown:
        msg = f"Split file {path} has the label {min(unknown)!r}, expected normal or anomaly."
        raise ValueError(msg)
    return pd.DataFrame(
        {
            "image_path": [str(inside(root, image, path)) for image in rows["image"]],
            "split": rows["split"],
            "label_index": rows["label"].map(_LABELS).astype(int),
            "mask_path": [str(inside(root, mask, path)) if mask else "" for mask in rows["mask"]],
            "category": rows["object"],
        },
    )


def _download(root: Path) -> None:
    try:
        download_and_extract(root, DOWNLOAD_INFO)
    except OSError:
        with suppress(OSError):
            root.rmdir()  # Left empty, it would look like a root that lacks its categories.
        raise
