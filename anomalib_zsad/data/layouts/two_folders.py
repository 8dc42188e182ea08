"""Normal and anomalous images without masks, labelled by their folder or by a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from anomalib.data.utils import LabelName, Split

from anomalib_zsad.data.layouts.listing import Layout, subfolder
from anomalib_zsad.data.source import Row, table
from anomalib_zsad.image_files import images_in


@dataclass(frozen=True)
class TwoFolders(Layout):
    """`{no, yes}`; other folders and masks are ignored.

    Args:
        normal: The name of the folder of the normal images.
        anomalous: Names that the folder of the anomalous images may have.
    """

    normal: str = "no"
    anomalous: tuple[str, ...] = ("yes",)

    def fits(self, folder: Path) -> bool:
        """Whether both folders exist."""
        return all(subfolder(folder, *names) for names in ((self.normal,), self.anomalous))

    def read(self, folder: Path) -> pd.DataFrame:
        """List all images, for testing."""
        return table(self._rows(folder))

    def _rows(self, folder: Path) -> Iterator[Row]:
        for label, names in ((LabelName.NORMAL, (self.normal,)), (LabelName.ABNORMAL, self.anomalous)):
            of_label = subfolder(folder, *names)
            for image in images_in(subfolder(of_label, "images") or of_label):
                yield Split.TEST, label, image, None


@dataclass(frozen=True)
class LabelsCsv(Layout):
    """A table with a number and a label (1: anomalous) for every image, and a folder of images named by number.

    Args:
        file: The name of the table; its columns are read by their order, since a published header has a stray blank.
        folder: The name of the folder of the images; it may lie in another of the same name.
    """

    file: str = "labels.csv"
    folder: str = "head_ct"

    def fits(self, folder: Path) -> bool:
        """Whether the table and the images exist."""
        return (folder / self.file).is_file() and bool(self._images(folder))

    def read(self, folder: Path) -> pd.DataFrame:
        """List all images that the table names, for testing."""
        return table(self._rows(folder))

    def _rows(self, folder: Path) -> Iterator[Row]:
        path = folder / self.file
        images = {int(image.stem): image for image in self._images(folder) if image.stem.isdecimal()}
        for number, label, *_ in pd.read_csv(path, dtype=str, keep_default_na=False).itertuples(index=False):
            if not number.strip().isdecimal() or label.strip() not in {"0", "1"}:
                msg = f"{path} has the row {number!r}, {label!r}, expected the number of an image and 0 or 1."
                raise ValueError(msg)
            if int(number) not in images:
                msg = f"{path} names image {int(number):03d}, expected it in {folder / self.folder}."
                raise FileNotFoundError(msg)
            yield Split.TEST, LabelName(int(label)), images[int(number)], None

    def _images(self, folder: Path) -> list[Path]:
        outer = subfolder(folder, self.folder)
        return images_in(subfolder(outer, self.folder) or outer)
