"""Pictures of results, one folder for each category."""

import logging
from pathlib import Path
from typing import Any

from anomalib.data import ImageBatch, ImageItem
from anomalib.visualization import ImageVisualizer
from lightning.pytorch import LightningModule, Trainer
from PIL.Image import Image

from anomalib_zsad.atomic import LONGEST_NAME, shortened, write_picture
from anomalib_zsad.data.item import categories_of
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.evaluation.extra import reason_of
from anomalib_zsad.paths import path_component

logger = logging.getLogger(__name__)


class CategoryVisualizer(ImageVisualizer):
    """Anomalib's pictures at `images/<category>/<folder>/<name>`, on one scale for all images.

    Images of the same name and folder in one run are numbered rather than overwritten. Images are read as the model
    reads them: upright, and any bit depth. A picture that cannot be drawn costs a warning, not the run.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sources: dict[Path, Path] = {}
        self._missing = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let this run replace the pictures of earlier ones."""
        del trainer, pl_module
        self._sources.clear()
        self._missing = 0

    on_predict_start = on_test_start

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save a picture of every image."""
        del pl_module, outputs, batch_idx, dataloader_idx
        folder = Path(self.output_dir or Path(trainer.default_root_dir) / "images")
        categories = categories_of(batch, getattr(trainer, "datamodule", None))
        for item, category in zip(batch, categories, strict=True):
            self._draw(item, folder / path_component(category))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many pictures are missing, where it is more than the one that was told."""
        del trainer, pl_module
        if self._missing > 1:
            logger.warning("%d images have no picture; all of them have their scores.", self._missing)

    on_predict_end = on_test_end

    def _draw(self, item: ImageItem, folder: Path) -> None:
        try:
            picture = self.visualize(_readable(item))
            if isinstance(picture, Image):
                write_picture(picture, self._place(folder, Path(str(item.image_path))))
        except Exception as error:  # whatever is wrong with a picture, the scores are what counts
            self._missing += 1
            if self._missing == 1:
                words = "No picture of %s: %s. The run goes on without it."
                logger.warning(words, item.image_path or "an image", reason_of(error))

    def _place(self, folder: Path, source: Path) -> Path:
        place, number = folder / path_component(source.parent.name) / source.name, 1
        while self._sources.setdefault(place, source) != source:
            number += 1
            tail = f"_{number}{source.suffix}"
            place = place.with_name(f"{shortened(source.stem, LONGEST_NAME - len(tail))}{tail}")
        return place


def _readable(item: ImageItem) -> ImageItem:
    if item.image_path is None:
        msg = "it has no path"
        raise ValueError(msg)
    image = read_image(item.image_path)
    # anomalib drops sides of one pixel, and takes what is left for something else.
    image = image.expand(-1, *(max(side, 2) for side in image.shape[1:]))
    # Where an item has a path, anomalib opens the file itself, without regard to its EXIF entry.
    return item.update(in_place=False, image=image, image_path=None)
