"""VisA as a dataset to train on, read from the download as it is."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.data.datamodules.image.visa import DOWNLOAD_INFO, VISA_CATEGORIES
from anomalib.data.utils import LabelName, download_and_extract

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.categories import one_category
from anomalib_zsad.data.layouts import StateFolders
from anomalib_zsad.data.source import Source
from anomalib_zsad.image_files import inside

_SPLIT_FILE = Path("split_csv", "1cls.csv")
_RESPLIT_COPY = "visa_pytorch"
_COLUMNS = ["object", "split", "label", "image", "mask"]
_LABELS = {"normal": LabelName.NORMAL, "anomaly": LabelName.ABNORMAL}


class VisA(Auxiliary):
    """Train on the labelled test images of VisA, 12 categories; or test on them.

    The unpacked download is read in place by its `split_csv/1cls.csv`. A root with only anomalib's re-split copy,
    `visa_pytorch`, is read as well.

    Args:
        root: The folder with `split_csv` and one folder for each category. The dataset is downloaded if the root does
            not exist.
        categories: The categories to use. None: all on the disk.
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
        super().__init__(one_category(_Download(Path(root))), categories, target, val_ratio, **plumbing)


@dataclass
class _Download(Source):
    """The unpacked download, or a folder with anomalib's re-split copy."""

    root: Path
    name = "VisA"
    categories = VISA_CATEGORIES

    def has_category(self, category: str) -> bool:
        return (self.root / category).is_dir() or self._has_copy(category)

    def prepare(self, category: str) -> None:
        if not self.root.exists():
            _download(self.root)
        if not self.has_category(category):
            msg = (
                f"No VisA category at {self.root / category}: expected {self.root} to hold the unpacked "
                f"{DOWNLOAD_INFO.url.split('/')[-1]} ({DOWNLOAD_INFO.url})."
            )
            raise FileNotFoundError(msg)

    def read(self, category: str) -> pd.DataFrame:
        is_raw = (self.root / _SPLIT_FILE).exists() and (self.root / category).is_dir()
        if self._has_copy(category) and not is_raw:
            return StateFolders().read(self.root / _RESPLIT_COPY / category)
        return _listed(self.root, self._rows[self._rows["object"] == category])

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return _read_split_file(self.root / _SPLIT_FILE)

    def _has_copy(self, category: str) -> bool:
        return (self.root / _RESPLIT_COPY / category / "test").is_dir()


def _read_split_file(path: Path) -> pd.DataFrame:
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
    return rows


def _listed(root: Path, rows: pd.DataFrame) -> pd.DataFrame:
    path = root / _SPLIT_FILE
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
        },
    )


def _download(root: Path) -> None:
    try:
        download_and_extract(root, DOWNLOAD_INFO)
    except OSError:
        with suppress(OSError):
            root.rmdir()  # Left empty, it would look like a root that lacks its categories.
        raise
