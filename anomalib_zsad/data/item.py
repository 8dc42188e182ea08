"""Items and batches that carry the category of every sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from anomalib.data import ImageBatch, ImageItem
from anomalib.data.dataclasses.numpy.image import NumpyImageBatch, NumpyImageItem
from torch import Generator, Tensor

from anomalib_zsad.functional.seeds import generator_of

ANY_CATEGORY = "object"
"""The category of a sample whose category is unknown."""


@dataclass
class NumpyCategoryItem(NumpyImageItem):
    """The numpy form of a `CategoryItem`."""

    category: str | None = None
    index: int | None = None
    soft_mask: Any = None


@dataclass
class NumpyCategoryBatch(NumpyImageBatch):
    """The numpy form of a `CategoryBatch`."""

    item_class: ClassVar[type[NumpyImageItem]] = NumpyCategoryItem
    category: list[str] | None = None
    index: list[int] | None = None
    soft_mask: Any = None


@dataclass
class CategoryItem(ImageItem):
    """An anomalib image item with the name of its category and its position in the dataset."""

    numpy_class: ClassVar[type[NumpyImageItem]] = NumpyCategoryItem
    category: str | None = None
    index: int | None = None
    soft_mask: Tensor | None = None
    """A `SoftMask` (H, W), if the training uses one."""


@dataclass
class CategoryBatch(ImageBatch):
    """An anomalib image batch with the category and the position in the dataset of each of its images."""

    item_class: ClassVar[type[ImageItem]] = CategoryItem
    numpy_class: ClassVar[type[NumpyImageBatch]] = NumpyCategoryBatch
    category: list[str] | None = None
    index: list[int] | None = None
    soft_mask: Tensor | None = None
    """(B, H, W), if the training uses soft masks."""

    def __post_init__(self) -> None:
        """Take positions off the tensor that they are collated to: on a GPU it would be waited for to be read."""
        if isinstance(self.index, Tensor):
            self.index = self.index.tolist()


def categories_of(
    batch: ImageBatch,
    datamodule: Any = None,
    class_name: str | None = None,
) -> Sequence[str]:
    """Return the category of every image in a batch.

    The first that is known is used: the caller's `class_name`, the sample's own category, that of the datamodule
    (`category_of`), "object".

    Args:
        batch: B images.
        datamodule: Their datamodule, or None.
        class_name: A name that overrides all others.

    Returns:
        B names.
    """
    if class_name:
        return [class_name] * len(batch)
    fallback = ANY_CATEGORY if datamodule is None else category_of(datamodule)
    own = getattr(batch, "category", None) or [None] * len(batch)
    return [name or fallback for name in own]


def category_of(datamodule: Any) -> str:
    """Return the category of a datamodule that has a single one; the dataset's name if it has no other."""
    return getattr(datamodule, "category", None) or getattr(datamodule, "name", None) or ANY_CATEGORY


def generators_of(
    batch: ImageBatch,
    purpose: str,
    seed: int,
    epoch: int,
) -> list[Generator | None]:  # B
    """Make a random generator for every image in a batch from the seed, the epoch and the image alone.

    Args:
        batch: B images; None stands for torch's own generator if their position in a dataset is unknown.
        purpose: The use of the random numbers.
        seed: Seed of the training.
        epoch: Epoch of the training.
    """
    index = getattr(batch, "index", None)
    if index is None:
        return [None] * len(batch)
    return [generator_of(purpose, seed, epoch, each) for each in index]
