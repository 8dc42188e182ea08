"""The categories of any anomalib datamodule, each as a datamodule of its own."""

import logging
from collections.abc import Sequence
from pathlib import Path

from anomalib.data import AnomalibDataModule

from anomalib_zsad.data.item import category_of
from anomalib_zsad.seam.datamodules import categories_beside, read_all_tests, sibling

logger = logging.getLogger(__name__)


def category_names(datamodule: AnomalibDataModule) -> list[str]:
    """Name all categories of the dataset that a datamodule reads, on the disk or not.

    anomalib keeps them as `CATEGORIES` beside the dataset class; a datamodule of ours, or a user's, may have an
    attribute `categories`. A datamodule without either has the one that it is set to.
    """
    own = getattr(datamodule, "categories", None)
    if own:
        return list(own)
    return categories_beside(datamodule) or [category_of(datamodule)]


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
        parts = {name: sibling(datamodule, name) for name in (names if categories else _present(datamodule, names))}
    return _chosen(parts, categories, datamodule.name) if categories else parts


def load(part: AnomalibDataModule, seed: int) -> None:
    """Set one category up with all its test images.

    Args:
        part: One category, from `parts_of`.
        seed: Seed of the choice of normal images where a dataset has none of its own to test on, unless the part has
            a seed.
    """
    if hasattr(part, "test_data"):
        return
    part.seed = seed if part.seed is None else part.seed
    read_all_tests(part)


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
