"""Images whose label follows from their mask."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.layouts.listing import Layout, masks_by_stem, subfolder
from anomalib_zsad.data.reading import read_mask, size_of
from anomalib_zsad.data.source import Row, table
from anomalib_zsad.image_files import images_in

_SPLITS = (Split.TRAIN, Split.TEST)


class MaskIfDefective(Layout):
    """`{Train, Test}/{NNNN.PNG, Label/NNNN_label.PNG}`, as in DAGM: only a defective image has a mask."""

    def fits(self, folder: Path) -> bool:
        """Whether there are masks of test images."""
        return subfolder(subfolder(folder, "Test"), "Label") is not None

    def read(self, folder: Path) -> pd.DataFrame:
        """List the normal training images and all test images."""
        return table(self._rows(folder))

    def _rows(self, folder: Path) -> Iterator[Row]:
        for split in _SPLITS:
            own = subfolder(folder, split.value)
            truth = subfolder(own, "Label")
            masks = masks_by_stem(truth) if truth else {}
            yield from _labelled(split, [(image, masks.get(image.stem)) for image in images_in(own)])


class MaskBeside(Layout):
    """`{train, test}/{NNNNN.png, NNNNN_GT.png}`, as in KolektorSDD2: the mask of a normal image is all zero."""

    def fits(self, folder: Path) -> bool:
        """Whether there are masks of test images."""
        return any(image.stem.endswith("_GT") for image in images_in(subfolder(folder, "test")))

    def read(self, folder: Path) -> pd.DataFrame:
        """List the normal training images and all test images."""
        return table(self._rows(folder))

    def _rows(self, folder: Path) -> Iterator[Row]:
        for split in _SPLITS:
            files = {path.stem: path for path in images_in(subfolder(folder, split.value))}
            # Public copies hold stray duplicates, such as "10301 (copy).png".
            pairs = [
                (path, files[f"{stem}_GT"])
                for stem, path in files.items()
                if stem.isdecimal() and f"{stem}_GT" in files
            ]
            yield from _labelled(split, [(image, mask if is_defective(image, mask) else None) for image, mask in pairs])


class PosNeg(Layout):
    """`{pos/{X.jpg, X.png}, neg/X.jpg}`: defective images with their masks beside them, and normal ones."""

    def fits(self, folder: Path) -> bool:
        """Whether both folders exist."""
        return all(subfolder(folder, name) for name in ("pos", "neg"))

    def read(self, folder: Path) -> pd.DataFrame:
        """List all images, for testing."""
        return table(self._rows(folder))

    def _rows(self, folder: Path) -> Iterator[Row]:
        for name, label in (("neg", LabelName.NORMAL), ("pos", LabelName.ABNORMAL)):
            for image in images_in(subfolder(folder, name)):
                if image.suffix.lower() != ".png":
                    mask = image.with_suffix(".png") if label == LabelName.ABNORMAL else None
                    yield Split.TEST, label, image, mask


def _labelled(split: Split, pairs: list[tuple[Path, Path | None]]) -> Iterator[Row]:
    for image, mask in pairs:
        label = LabelName.NORMAL if mask is None else LabelName.ABNORMAL
        if split == Split.TEST or label == LabelName.NORMAL:
            yield split, label, image, mask


def is_defective(image: Path, mask: Path) -> bool:
    """Whether the mask of an image shows a defect."""
    return bool(read_mask(mask, image, size_of(image)).any())
