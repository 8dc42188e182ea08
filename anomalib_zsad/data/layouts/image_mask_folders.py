"""A folder of images and one of their masks, every image anomalous: segmentation datasets."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.layouts.listing import Layout, masks_in, subfolder, truth_in
from anomalib_zsad.data.source import table
from anomalib_zsad.image_files import images_in


@dataclass(frozen=True)
class ImageMaskFolders(Layout):
    """`{images, masks}`, paired by the stems of the file names.

    Args:
        images: The name of the folder of the images.
        masks: The name of the folder of the masks.
    """

    images: str = "images"
    masks: str = "masks"

    def fits(self, folder: Path) -> bool:
        """Whether both folders exist."""
        return bool(images_in(subfolder(folder, self.images))) and subfolder(folder, self.masks) is not None

    def read(self, folder: Path) -> pd.DataFrame:
        """List all images, for testing."""
        mask_of = masks_in(truth_in(folder, self.masks))
        images = images_in(subfolder(folder, self.images))
        return table((Split.TEST, LabelName.ABNORMAL, image, mask_of(image)) for image in images)
