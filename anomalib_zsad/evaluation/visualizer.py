"""Pictures of results, one folder for each category."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import torch
from anomalib.visualization import ImageVisualizer
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchvision.transforms.v2 import Compose, Normalize

from anomalib_zsad.atomic import LONGEST_NAME, shortened, write_picture
from anomalib_zsad.data.item import categories_of
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.evaluation.drawing import ItemDrawing
from anomalib_zsad.evaluation.extra import reason_of
from anomalib_zsad.paths import path_component
from anomalib_zsad.printing import printable

logger = logging.getLogger(__name__)

_DRAWN = ("image", "gt_mask", "pred_mask", "anomaly_map")
_WAITING = 32
"""Images, at most, that are scored and not drawn yet; 5 MB each at 518 px."""


class CategoryVisualizer(ImageVisualizer):
    """Anomalib's pictures at `images/<category>/<folder>/<name>.jpg`, on one scale for all images.

    Images of the same name and folder in one run are numbered rather than overwritten. A picture shows what the model
    was given and, for a calibrated model, the p-value of its score. It is drawn in a separate thread while the next
    images are scored; one that cannot be drawn is logged as a warning.

    Args:
        *args: Those of anomalib's `ImageVisualizer`.
        least_score: Draw an image only if its normalised score is at least this, or it is known to be anomalous. 0.5
            is the threshold, so that 0.4 leaves out what is clearly normal.
        **kwargs: Those of anomalib's `ImageVisualizer`.
    """

    def __init__(self, *args: Any, least_score: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.least_score = least_score
        self._drawing = ItemDrawing(self)
        self._sources: dict[Path, Path] = {}
        self._missing = 0
        self._thread: ThreadPoolExecutor | None = None
        self._places_left: BoundedSemaphore | None = None  # not before it is needed: models are copied, locks cannot be

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew, so that this run replaces the pictures of earlier ones."""
        del trainer, pl_module
        self._sources.clear()
        self._missing = 0

    on_predict_start = on_test_start

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Queue a picture of every image."""
        del outputs, batch_idx, dataloader_idx
        folder = Path(self.output_dir or Path(trainer.default_root_dir) / "images")
        normalisation = _normalisation(getattr(pl_module, "pre_processor", None))
        categories = categories_of(batch, getattr(trainer, "datamodule", None))
        labels, scores, p_values = (_listed(batch, name) for name in ("gt_label", "pred_score", "p_value"))
        paths = batch.image_path or [None] * len(categories)
        rows = [row for row in range(len(categories)) if self._is_shown(labels, scores, row)]
        fields = {name: _on_cpu(getattr(batch, name, None)) for name in _DRAWN} if rows else {}
        for row in rows:
            caption = f"p = {p_values[row]:.3g}" if p_values else None
            own = {name: None if values is None else values[row] for name, values in fields.items()}
            self._begin(own, paths[row], caption, normalisation, folder / path_component(categories[row]))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the last pictures; log how many are missing if there is more than the one already reported."""
        del trainer, pl_module
        self._finish()
        if self._missing > 1:
            logger.warning("%d images have no picture; all of them have their scores.", self._missing)

    on_predict_end = on_test_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw what was scored before the run ended."""
        del trainer, pl_module, exception
        self._finish()

    def _is_shown(self, labels: Sequence[Any], scores: Sequence[float], row: int) -> bool:
        return bool(labels and labels[row]) or not scores or scores[row] >= self.least_score

    def _begin(
        self,
        fields: dict[str, Any],
        path: str | None,
        caption: str | None,
        normalisation: Normalize | None,
        folder: Path,
    ) -> None:
        if path is None:
            self._miss("an image", "it has no path")
            return
        place = self._place(folder, Path(str(path)))
        # One thread, since anomalib's drawing shares fonts and colour maps.
        self._thread = self._thread or ThreadPoolExecutor(1, "pictures")
        self._places_left = places = self._places_left or BoundedSemaphore(_WAITING)
        places.acquire()
        drawn = self._thread.submit(self._draw, fields, caption, path, normalisation, place)
        drawn.add_done_callback(lambda _: places.release())

    def _draw(
        self, fields: dict[str, Any], caption: str | None, path: str, normalisation: Normalize | None, place: Path
    ) -> None:
        try:
            seen = _as_seen(fields["image"], path, normalisation)
            picture = self._drawing.draw({**fields, "image": seen}, caption)
            if picture is not None:
                write_picture(picture, place, quality=90)
        except Exception as error:  # whatever is wrong with a picture, the scores are what counts
            self._miss(path, reason_of(error))

    def _miss(self, what: str, reason: str) -> None:
        self._missing += 1
        if self._missing == 1:
            logger.warning("No picture of %s: %s. The run continues without it.", printable(what), reason)

    def _finish(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = self._places_left = None

    def _place(self, folder: Path, source: Path) -> Path:
        number, tail = 1, ".jpg"
        while True:
            stem = shortened(source.stem, LONGEST_NAME - len(tail))
            place = folder / path_component(source.parent.name) / f"{stem}{tail}"
            if self._sources.setdefault(place, source) == source:
                return place
            number += 1
            tail = f"_{number}.jpg"


def _normalisation(pre_processor: Any) -> Normalize | None:
    """Find the last step of a pre-processor, where that is a normalisation."""
    transform = getattr(pre_processor, "transform", None)
    last = transform.transforms[-1] if isinstance(transform, Compose) else transform
    return last if isinstance(last, Normalize) else None


def _as_seen(image: Tensor, path: str, normalisation: Normalize | None) -> Tensor:  # (3, H, W) -> the same, in [0, 1]
    """Undo the normalisation; images of a model that normalises in a way of its own are read again."""
    if normalisation is not None:
        mean, std = (torch.tensor(each)[:, None, None] for each in (normalisation.mean, normalisation.std))
        image = (image * std + mean).clamp(0, 1)
    elif image.min() < 0 or image.max() > 1:
        image = read_image(path)
    # anomalib drops sides of one pixel, and takes what is left for something else.
    return image.expand(-1, *(max(side, 2) for side in image.shape[1:]))


def _listed(batch: Any, name: str) -> list[Any]:
    """List what a batch has of its images, all at once: each read of a GPU waits for it."""
    values = getattr(batch, name, None)
    return [] if values is None else values.tolist()


def _on_cpu(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().float().cpu() if values.is_floating_point() else values.cpu()
