"""Common functions of layouts: folders by name, the mask of an image."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from anomalib_zsad.data.reading import is_lossy
from anomalib_zsad.image_files import folders_in, images_in

_MASK_TAILS = ("_mask", "_label", "_segmentation", "_gt")


class Layout(ABC):
    """A layout of the images of a category on the disk."""

    counted: bool = True
    """Whether the number of test images is the published one."""

    @abstractmethod
    def fits(self, folder: Path) -> bool:
        """Whether a folder has this layout, by the names in it."""

    @abstractmethod
    def read(self, folder: Path) -> pd.DataFrame:
        """List the samples of a folder that fits: normal training images and labelled test images."""

    def prepare(self, folder: Path) -> None:  # noqa: B027  (most layouts have nothing to prepare)
        """Prepare the folder, once for all processes."""


def subfolder(folder: Path | None, *names: str) -> Path | None:
    """Find the first of some folders in a folder, ignoring case."""
    there = {path.name.lower(): path for path in folders_in(folder)}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """List the masks of a folder by the stem of their image: "7" for "7.png" and "7_mask.png".

    Of two masks for one image the losslessly compressed one is used.
    """
    masks = sorted(images_in(folder), key=lambda path: not is_lossy(path))
    return {_without_tail(path.stem): path for path in masks}


def truth_in(folder: Path, *names: str) -> Path:
    """Find the folder of the masks in a folder.

    Raises:
        FileNotFoundError: There is none.
    """
    truth = subfolder(folder, *names)
    if truth is None:
        msg = f"No folder of masks in {folder}: expected {' or '.join(names)} beside the images."
        raise FileNotFoundError(msg)
    return truth


def masks_in(folder: Path) -> Callable[[Path], Path]:
    """Find the masks of images by name in a folder; raise FileNotFoundError for a missing one."""
    masks = masks_by_stem(folder)

    def mask_of(image: Path) -> Path:
        if image.stem not in masks:
            msg = f"Anomalous image {image} has no mask: expected one of its name in {folder}, got {len(masks)} others."
            raise FileNotFoundError(msg)
        return masks[image.stem]

    return mask_of


def _without_tail(stem: str) -> str:
    tail = next((tail for tail in _MASK_TAILS if stem.lower().endswith(tail)), "")
    return stem[: len(stem) - len(tail)]
