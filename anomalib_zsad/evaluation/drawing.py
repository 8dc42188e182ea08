"""anomalib's picture of one image, at a third of its cost: resized once, titles drawn once for all pictures."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from anomalib.utils.path import convert_to_title_case
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.functional import add_text_to_image
from anomalib.visualization.image.item_visualizer import visualize_image_item
from PIL import Image, ImageDraw
from torch import Tensor

_CAPTION: dict[str, Any] = {"font_size": 20, "stroke_width": 2, "stroke_fill": "black"}


class ItemDrawing:
    """Draws what anomalib's `visualize_image_item` draws with the options of a visualizer.

    anomalib resizes every field several times, as RGBA, and renders the same titles for every image. Here each field
    is resized once, and the titles are one transparent layer that is pasted.

    Args:
        visualizer: Its fields, overlays, sizes, colours and text are used.
    """

    def __init__(self, visualizer: ImageVisualizer) -> None:
        self.visualizer = visualizer
        self._layers: dict[tuple[str, ...], Image.Image] = {}

    def draw(
        self,
        fields: Mapping[str, Tensor | None],  # image (3, H, W) in [0, 1], masks (H, W) bool, anomaly_map in [0, 1]
        caption: str | None = None,
    ) -> Image.Image | None:
        """Draw the fields of an image beside one another, a caption in the lower left; None if there are none."""
        options = self.visualizer
        present = {name: _resized(values, options.field_size) for name, values in fields.items() if values is not None}
        picture = visualize_image_item(
            SimpleNamespace(**present),  # type: ignore[arg-type]  # read by attribute; its functions take PIL images
            options.fields,
            options.overlay_fields,
            options.field_size,
            options.fields_config,
            options.overlay_fields_config,
            {**options.text_config, "enable": False},
        )
        if picture is not None and options.text_config.get("enable", True):
            layer = self._titles(present)
            picture.paste(layer, mask=layer)
        if picture is not None and caption:
            ImageDraw.Draw(picture).text((10, picture.height - 10), caption, "white", anchor="lb", **_CAPTION)
        return picture

    def _titles(self, present: Mapping[str, Any]) -> Image.Image:  # RGBA, of the picture's size
        titles = [convert_to_title_case(name) for name in self.visualizer.fields or [] if name in present]
        for base, overlays in self.visualizer.overlay_fields or []:
            shown = [convert_to_title_case(name) for name in overlays if name in present]
            if base in present:
                titles.append(f"{convert_to_title_case(base)} + {'+'.join(shown)}" if shown else "")
        if (key := tuple(titles)) not in self._layers:
            columns = [self._title(title) for title in titles]
            self._layers[key] = Image.fromarray(np.concatenate(columns, axis=1))
        return self._layers[key]

    def _title(self, title: str) -> np.ndarray:  # (height, width, 4) uint8
        """Render a title on a transparent layer, computed from anomalib's drawings on black and on white."""
        size = self.visualizer.field_size
        if not title:
            return np.zeros((size[1], size[0], 4), np.uint8)
        text = {name: value for name, value in self.visualizer.text_config.items() if name != "enable"}
        black, white = (
            np.asarray(add_text_to_image(Image.new("RGB", size, ground), title, **text), dtype=float)
            for ground in ("black", "white")
        )
        opacity = 255 - (white - black).mean(axis=-1, keepdims=True)
        colour = 255 * black / np.maximum(opacity, 1)
        return np.concatenate([colour, opacity], axis=-1).round().clip(0, 255).astype(np.uint8)


def _resized(
    values: Tensor,  # (3, H, W), (1, H, W) or (H, W)
    size: tuple[int, int],  # width and height
) -> Image.Image:
    plane = values.reshape(values.shape[-2:]) if len(values) == 1 or values.ndim == 2 else values.permute(1, 2, 0)
    if not values.is_floating_point():
        return Image.fromarray((plane > 0).numpy().astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
    return Image.fromarray((plane * 255).byte().contiguous().numpy()).resize(size, Image.Resampling.BILINEAR)
