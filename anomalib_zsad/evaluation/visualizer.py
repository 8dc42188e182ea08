"""Pictures of results, one folder for each category."""

from pathlib import Path
from typing import Any

from anomalib.data import ImageBatch
from anomalib.visualization import ImageVisualizer
from lightning.pytorch import LightningModule, Trainer
from PIL.Image import Image

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.data.item import categories_of
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.paths import path_component


class CategoryVisualizer(ImageVisualizer):
    """Anomalib's pictures at `images/<category>/<folder>/<name>`, on one scale for all images.

    Images of the same name and folder in one run are numbered rather than overwritten. Images are read as the model
    reads them: upright, and any bit depth.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sources: dict[Path, Path] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let this run replace the pictures of earlier ones."""
        del trainer, pl_module
        self._sources.clear()

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
        for item, category, path in zip(batch, categories, batch.image_path or (), strict=True):
            # Where an item has a path, anomalib opens the file itself, without regard to its EXIF entry.
            picture = self.visualize(item.update(in_place=False, image=read_image(path), image_path=None))
            if isinstance(picture, Image):
                with whole_file(self._place(folder / path_component(category), Path(path))) as temporary:
                    picture.save(temporary)

    def _place(self, folder: Path, source: Path) -> Path:
        place, number = folder / path_component(source.parent.name) / source.name, 1
        while self._sources.setdefault(place, source) != source:
            number += 1
            place = place.with_name(f"{source.stem}_{number}{source.suffix}")
        return place
