"""The result for one image: score, decision, map, mask and picture."""

from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.visualization import ImageVisualizer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.atomic import write_picture
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.evaluation.drawing import ItemDrawing

__all__ = ["Detection"]

_LEAST_SIDE, _USUAL_SIDE, _LARGEST_SIDE = 96, 320, 512  # of a field of a picture, in pixels
_LETTERS = 20  # pixels


@dataclass(frozen=True, eq=False, repr=False)
class Detection:
    """The scores of one image, its map and its picture.

    `score`, `p_value` and the values of the map are those of `Engine.predict`: 0.5 is the threshold once one is known.

    Args:
        path: The image's file; None for one that was in memory.
        score: How anomalous the image is, from 0 to 1. NaN where it could not be read.
        threshold: The score above which it is called anomalous. None: the model makes no decisions.
        label: "normal" or "anomalous"; "unreadable" where there is an error. None: the model makes no decisions.
        p_value: The probability that a normal image scores as high. None: the model is not calibrated.
        raw_score: The score before the post-processor, as in `predictions.csv`.
        raw_threshold: That of raw scores.
        error: Why the image could not be read; None where it could.
    """

    path: str | None
    _: KW_ONLY
    score: float = float("nan")
    threshold: float | None = None
    label: str | None = None
    p_value: float | None = None
    raw_score: float = float("nan")
    raw_threshold: float | None = None
    error: str | None = None
    _map: Tensor | None = None  # (h, w), of the model's size
    _mask_above: float | None = None
    _size: tuple[int, int] = (0, 0)
    _pixels: NDArray[np.uint8] | None = field(default=None)  # (H, W, 3), of an image without a file

    @cached_property
    def anomaly_map(self) -> NDArray[np.float32] | None:  # (H, W)
        """How anomalous each pixel is, at the image's own size; None for a model without maps.

        Raises:
            ValueError: If the image could not be read.
        """
        self._check_readable()
        if self._map is None:
            return None
        own = F.interpolate(self._map[None, None], self._size, mode="bilinear", antialias=True)
        return own[0, 0].clamp(0, 1).numpy()

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:  # (H, W)
        """The pixels of the map above the model's threshold; None for a model without maps or decisions.

        Raises:
            ValueError: If the image could not be read.
        """
        own = self.anomaly_map
        return None if own is None or self._mask_above is None else own > self._mask_above

    @property
    def image(self) -> NDArray[np.uint8]:  # (H, W, 3)
        """The image in 8 bits, upright; a file is read again.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it could not be read before.
        """
        self._check_readable()
        return pixels_of(read_image(str(self.path))) if self._pixels is None else self._pixels

    def picture(self) -> Image.Image:
        """Draw the image, its map and its mask beside one another, with the decision.

        Raises:
            OSError: If the image's file cannot be read.
            ValueError: If it could not be read before.
        """
        fields: dict[str, Any] = {"image": torch.from_numpy(self.image.copy()).permute(2, 0, 1) / 255}
        if self._map is not None:
            fields["anomaly_map"] = self._map
        if self.mask is not None:
            fields["pred_mask"] = torch.from_numpy(self.mask)
        overlays = tuple(name for name in fields if name != "image")
        picture = _drawing(_field_size(*self._size), overlays).draw(fields, self._said())
        assert picture is not None  # there is an image
        return picture

    def save(self, path: str | Path) -> None:
        """Write the picture, whole or not at all, in the format of the file's suffix.

        Args:
            path: The file, such as `out.png`; its folder is made where it is missing.

        Raises:
            ValueError: If no format has this suffix.
        """
        write_picture(self.picture(), Path(path).expanduser())

    def _repr_png_(self) -> bytes | None:
        """Show the picture in a notebook."""
        if self.error is not None:
            return None
        stream = BytesIO()
        self.picture().save(stream, "png")
        return stream.getvalue()

    def __repr__(self) -> str:
        where = "" if self.path is None else f"{self.path!r}, "
        if self.error is not None:
            return f"Detection({where}error={self.error!r})"
        size = f", {self._size[0]} x {self._size[1]} pixels"
        return f"Detection({where}{self._said()}{size})"

    def _said(self) -> str:
        decision = "" if self.label is None else f", {self.label} (threshold {self.threshold:g})"
        probability = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        return f"score {self.score:.3f}{decision}{probability}"

    def _check_readable(self) -> None:
        if self.error is not None:
            raise ValueError(self.error)


def pixels_of(image: Tensor) -> NDArray[np.uint8]:  # (3, H, W) in [0, 1] -> (H, W, 3)
    """Return an image in 8 bits."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def _field_size(height: int, width: int) -> tuple[int, int]:
    """Choose the width and height of a field: the image's own shape, unless that is a stripe."""
    largest = max(height, width)
    scale = min(max(largest, _USUAL_SIDE), _LARGEST_SIDE) / largest
    return max(round(width * scale), _LEAST_SIDE), max(round(height * scale), _LEAST_SIDE)


@lru_cache(maxsize=8)
def _drawing(size: tuple[int, int], overlays: tuple[str, ...]) -> ItemDrawing:
    letters = max(min(size[0] // 16, _LETTERS), 8)  # of titles: anomalib's own grow beyond a field
    visualizer = ImageVisualizer(fields=["image"], field_size=size, text_config={"size": letters})
    visualizer.overlay_fields = [("image", [name]) for name in overlays]  # the constructor takes none for its default
    return ItemDrawing(visualizer)
