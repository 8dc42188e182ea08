"""Published datasets that users download: their origin, layouts and sizes."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, Split

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.categories import one_category
from anomalib_zsad.data.layouts import Layout
from anomalib_zsad.data.source import Source

logger = logging.getLogger(__name__)

Count = tuple[int, int] | int  # normal and anomalous test images, or all of them where no more is known


@dataclass(frozen=True)
class Facts:
    """Facts about a published dataset.

    Args:
        origin: Where to get it.
        tree: The tree below its root, for messages.
        layouts: The possible layouts of a category. The first that fits is used.
        folders: The possible folders of a category below the root, by category.
        counts: The published numbers of test images, by category; several where several editions are in use.
    """

    origin: str
    tree: str
    layouts: Sequence[Layout]
    folders: Mapping[str, Sequence[str]]
    counts: Mapping[str, Sequence[Count]] = field(default_factory=dict)


class KnownSet(Auxiliary):
    """Test on a published dataset, or train on its labelled test images.

    Args:
        root: The folder that holds the dataset. None: `./datasets/<name of the class>`.
        categories: The categories to use. None: all on the disk.
        target: The datamodule to test on, if this one is trained on.
        val_ratio: The share of the training images held out for validation.
        **plumbing: Batch sizes, workers, augmentations and seed, as in `CategoryDataModule`.
    """

    @arg.checked
    def __init__(
        self,
        root: str | Path | None = None,
        categories: Sequence[str] | None = None,
        target: AnomalibDataModule | None = None,
        val_ratio: arg.ShareBelowOne = 0.1,
        **plumbing: Any,
    ) -> None:
        name = type(self).__name__
        source = _KnownSource(name, self.facts, Path(root or Path("datasets", name)))
        super().__init__(one_category(source, source.categories[0]), categories, target, val_ratio, **plumbing)

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """The facts about the dataset."""


@dataclass(frozen=True)
class _KnownSource(Source):
    """A published dataset on the disk."""

    name: str
    facts: Facts
    root: Path

    @property
    def categories(self) -> list[str]:
        return list(self.facts.folders)

    def has_category(self, category: str) -> bool:
        return self._find(category) is not None

    def prepare(self, category: str) -> None:
        layout, folder = self._located(category)
        layout.prepare(folder)

    def read(self, category: str) -> pd.DataFrame:
        layout, folder = self._located(category)
        samples = layout.read(folder)
        if layout.counted:
            self._check_count(category, samples[samples["split"] == Split.TEST.value]["label_index"])
        return samples

    def _find(self, category: str) -> tuple[Layout, Path] | None:
        folders = [self.root / folder for folder in self.facts.folders[category]]
        fitting = ((layout, folder) for folder in folders for layout in self.facts.layouts if layout.fits(folder))
        return next(fitting, None)

    def _located(self, category: str) -> tuple[Layout, Path]:
        found = self._find(category)
        if found is None:
            which = "" if len(self.categories) == 1 else f" category {category}"
            msg = (
                f"No {self.name}{which} at {self.root}, which {_content(self.root)}: expected {self.facts.tree} "
                f"there, from {self.facts.origin}."
            )
            raise FileNotFoundError(msg)
        return found

    def _check_count(self, category: str, labels: pd.Series) -> None:
        expected = self.facts.counts.get(category, ())
        count = (int((labels == LabelName.NORMAL).sum()), int((labels == LabelName.ABNORMAL).sum()))
        if expected and count not in expected and sum(count) not in expected:
            logger.warning(
                "%s/%s at %s has %s test images, expected %s: figures will differ from published ones.",
                self.name,
                category,
                self.root,
                _in_words(count),
                " or ".join(map(_in_words, expected)),
            )


def _content(folder: Path) -> str:
    if not folder.is_dir():
        return "does not exist"
    names = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"holds {shown}" if names else "is empty"


def _in_words(count: Count) -> str:
    return str(count) if isinstance(count, int) else f"{count[0]} normal and {count[1]} anomalous"
