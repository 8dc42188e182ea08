"""The categories of any anomalib datamodule, each as a datamodule of its own."""

import copy
import inspect
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import TestSplitMode
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_zsad.data.item import category_of

logger = logging.getLogger(__name__)

_SPLITS = ("train_data", "val_data", "test_data")


def category_names(datamodule: AnomalibDataModule) -> list[str]:
    """Name all categories of the dataset that a datamodule reads, on the disk or not.

    anomalib keeps them as `CATEGORIES` beside the dataset class; a datamodule of ours, or a user's, may have an
    attribute `categories`. A datamodule without either has the one that it is set to.
    """
    own = getattr(datamodule, "categories", None)
    if own:
        return list(own)
    for ancestor in type(datamodule).__mro__:
        for dataset in vars(sys.modules[ancestor.__module__]).values():
            if not inspect.isclass(dataset) or not issubclass(dataset, AnomalibDataset):
                continue
            known = getattr(sys.modules[dataset.__module__], "CATEGORIES", ())
            if datamodule.category in known:
                return list(known)
    return [category_of(datamodule)]


def parts_of(
    datamodule: AnomalibDataModule,
    categories: Sequence[str] | None = None,
) -> dict[str, AnomalibDataModule]:
    """Take a datamodule apart into one for each of its categories.

    Args:
        datamodule: Any image datamodule of anomalib or of this package, set up or not. It is left as it is.
        categories: The categories to use. None: all whose folder is there, or all there are if no folder is.

    Returns:
        Category to datamodule, in the dataset's order.

    Raises:
        ValueError: A category is unknown.
    """
    if hasattr(datamodule, "parts"):
        parts = datamodule.parts()
    else:
        names = category_names(datamodule)
        parts = {name: _sibling(datamodule, name) for name in (names if categories else _present(datamodule, names))}
    return _chosen(parts, categories, datamodule.name) if categories else parts


def load(part: AnomalibDataModule, seed: int) -> None:
    """Set one category up with all its test images.

    anomalib's own `setup` takes a share of the test images for validation in some datamodules (`Folder`), and drops
    the normal ones in others (`TestSplitMode.NONE`).

    Args:
        part: One category, from `parts_of`.
        seed: Seed of the choice of normal images where a dataset has none of its own to test on, unless the part has
            a seed.
    """
    if hasattr(part, "test_data"):
        return
    part.seed = seed if part.seed is None else part.seed
    part._setup(TrainerFn.TESTING)
    can_split = part.test_data.has_normal or hasattr(part, "train_data")
    if part.test_split_mode != TestSplitMode.NONE and can_split:
        part._create_test_split()


def _sibling(datamodule: AnomalibDataModule, category: str) -> AnomalibDataModule:
    # No datamodule of anomalib derives anything from its category before setup, so a copy needs no new construction.
    sibling = copy.copy(datamodule)
    sibling.category = category
    sibling.trainer = None
    sibling._is_setup = False
    for split in _SPLITS:
        vars(sibling).pop(split, None)
    return sibling


def _present(datamodule: AnomalibDataModule, names: list[str]) -> list[str]:
    roots = [Path(root) for root in (getattr(datamodule, name, None) for name in ("root", "split_root")) if root]
    is_there = getattr(datamodule, "has_category", lambda name: any((root / name).is_dir() for root in roots))
    present = list(filter(is_there, names))
    if present and len(present) < len(names):
        absent = ", ".join(name for name in names if name not in present)
        logger.warning("%s at %s lacks %s: using the other categories.", datamodule.name, roots[0], absent)
    return present or names


def _chosen(
    parts: dict[str, AnomalibDataModule],
    categories: Sequence[str],
    name: str,
) -> dict[str, AnomalibDataModule]:
    unknown = [category for category in categories if category not in parts]
    if unknown:
        msg = f"Unknown category {', '.join(map(repr, unknown))} of {name}, expected some of: {', '.join(parts)}."
        raise ValueError(msg)
    return {category: part for category, part in parts.items() if category in categories}
