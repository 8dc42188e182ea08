"""Which published datasets lie where datamodules look for them."""

from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import anomalib_zsad.data
from anomalib_zsad.data.names import dataset_key
from anomalib_zsad.image_files import folders_in


@dataclass(frozen=True)
class FoundSet:
    """A dataset, or its absence.

    Args:
        name: Of the datamodule.
        root: The folder that was found, or else the one in which the datamodule looks.
        categories: Those that are there.
        known: Those that the dataset has.
    """

    name: str
    root: Path
    categories: int
    known: int

    @property
    def option(self) -> str:
        """The option of a command that names it."""
        is_default = self.root == _default_root(getattr(anomalib_zsad.data, self.name))
        return f"--data {self.name}" + ("" if is_default else f" --data.root {self.root}")


def find_datasets() -> list[FoundSet]:
    """Look for all datasets that have a root of their own: at its default, and beside it by their other names."""
    kinds = (getattr(anomalib_zsad.data, name) for name in sorted(anomalib_zsad.data.__all__, key=str.lower))
    return [_find(kind) for kind in kinds if next(iter(signature(kind).parameters)) == "root"]


def _find(kind: Any) -> FoundSet:
    default = _default_root(kind)
    beside = [folder for folder in folders_in(default.parent) if dataset_key(folder.name) == dataset_key(kind.__name__)]
    places = [_at(kind, root) for root in dict.fromkeys([default, *beside])]
    return max(places, key=lambda place: place.categories)  # the first of equals


def _at(kind: Any, root: Path) -> FoundSet:
    source = kind(root).source.origin
    present = [category for category in source.categories if source.has_category(category)]
    return FoundSet(kind.__name__, root, len(present), len(source.categories))


def _default_root(kind: Any) -> Path:
    default = signature(kind).parameters["root"].default
    return Path("datasets", kind.__name__) if default is None else Path(default)
