"""The folders of BMAD, whose masks lie in the folder of the anomalous images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.layouts.listing import Layout, masks_in, subfolder, truth_in
from anomalib_zsad.data.source import Row, table
from anomalib_zsad.image_files import images_in

# The copies that research code uses say "label", the authors of BMAD "anomaly_mask".
_MASKS = ("label", "anomaly_mask")


@dataclass(frozen=True)
class BMADFolders(Layout):
    """`{train/good, valid, test}`, in each `{good/img, Ungood/{img, label or anomaly_mask}}`.

    The references of few-shot detection are the normal training images, or those of `valid` where a copy lacks the
    training images.
    """

    def fits(self, folder: Path) -> bool:
        """Whether there are anomalous test images."""
        return bool(_images(subfolder(subfolder(folder, "test"), "Ungood")))

    def read(self, folder: Path) -> pd.DataFrame:
        """List the normal training images and all test images."""
        return table(_rows(folder))


def _rows(folder: Path) -> Iterator[Row]:
    training = (_images(subfolder(subfolder(folder, split), "good")) for split in ("train", "valid"))
    for image in next(filter(None, training), []):
        yield Split.TRAIN, LabelName.NORMAL, image, None
    test = subfolder(folder, "test")
    for image in _images(subfolder(test, "good")):
        yield Split.TEST, LabelName.NORMAL, image, None
    anomalous = subfolder(test, "Ungood") or folder
    mask_of = masks_in(truth_in(anomalous, *_MASKS))
    for image in _images(anomalous):
        yield Split.TEST, LabelName.ABNORMAL, image, mask_of(image)


def _images(state: Path | None) -> list[Path]:
    return images_in(subfolder(state, "img") or state)
