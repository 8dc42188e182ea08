"""The images of ``anomalib predict --data <image or folder>``."""

from anomalib.data import ImageItem, PredictDataset

from anomalib_zsad.data.reading import read_image


class ImageFiles(PredictDataset):
    """anomalib's dataset of image files, read as in training: upright, any bit depth, errors that name the file."""

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image."""
        path = self.image_filenames[index]
        image = read_image(path)
        return ImageItem(image=self.transform(image) if self.transform else image, image_path=str(path))


def adopt(dataset: PredictDataset) -> None:
    """Make an existing dataset of anomalib read its files as `ImageFiles` does.

    Args:
        dataset: The dataset that anomalib's engine built. It is changed in place: the engine hands out no other way
            to it, its data loader is built by then, and a loader does not let its dataset be replaced.
    """
    if type(dataset) is PredictDataset:
        # The two classes differ in one method and in no attribute.
        dataset.__class__ = ImageFiles
