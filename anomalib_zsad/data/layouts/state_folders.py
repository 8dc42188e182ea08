"""A folder for each state, as in MVTec AD and datasets that research code repackages like it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.layouts.listing import Layout, masks_in, subfolder, truth_in
from anomalib_zsad.data.source import Row, table
from anomalib_zsad.image_files import folders_in, images_in

_NORMAL = ("good", "ok")


@dataclass(frozen=True)
class StateFolders(Layout):
    """`{train/good, test/{good, <defect>}, ground_truth/<defect>}`; "ok" stands for "good", too.

    There may be no training images, and no normal ones. The masks of a defect without its own folder are in the folder
    of all masks.

    Args:
        truth: Names that the folder of the masks may have. None: no masks are read.
    """

    truth: tuple[str, ...] | None = ("ground_truth",)

    def fits(self, folder: Path) -> bool:
        """Whether there is a folder of a state to test on."""
        return bool(_states(subfolder(folder, "test")))

    def read(self, folder: Path) -> pd.DataFrame:
        """List the normal training images and all test images."""
        return table(self._rows(folder))

    def _rows(self, folder: Path) -> Iterator[Row]:
        for image in images_in(subfolder(subfolder(folder, "train"), *_NORMAL)):
            yield Split.TRAIN, LabelName.NORMAL, image, None
        for state in _states(subfolder(folder, "test")):
            if state.name.lower() in _NORMAL:
                for image in images_in(state):
                    yield Split.TEST, LabelName.NORMAL, image, None
                continue
            truth = truth_in(folder, *self.truth) if self.truth else None
            masks = subfolder(truth, state.name) or truth
            mask_of = masks_in(masks) if masks else lambda _: None
            for image in images_in(state):
                yield Split.TEST, LabelName.ABNORMAL, image, mask_of(image)


def _states(test: Path | None) -> list[Path]:
    return [path for path in folders_in(test) if images_in(path)]
