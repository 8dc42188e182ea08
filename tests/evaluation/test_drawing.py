import numpy as np
import pytest
import torch
from anomalib.data import ImageItem
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.item_visualizer import visualize_image_item
from PIL import Image
from torch.nn import functional as F

from anomalib_zsad.evaluation.drawing import ItemDrawing

SIDE = 256


def fields(side: int = SIDE) -> dict[str, torch.Tensor]:
    smooth = F.interpolate(torch.rand(1, 4, 5, 5, generator=torch.manual_seed(0)), (side, side), mode="bicubic")
    image, heat = smooth[0, :3].clamp(0, 1), smooth[0, 3:].clamp(0, 1)
    return {"image": image, "gt_mask": heat[0] > 0.6, "pred_mask": heat[0] > 0.7, "anomaly_map": heat}


def drawn_by_anomalib(visualizer: ImageVisualizer, values: dict[str, torch.Tensor]) -> Image.Image | None:
    of_visualizer = ("fields", "overlay_fields", "field_size", "fields_config", "overlay_fields_config", "text_config")
    return visualize_image_item(ImageItem(**values), *(getattr(visualizer, name) for name in of_visualizer))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fields": ["anomaly_map", "pred_mask", "image"], "overlay_fields": [("image", ["gt_mask", "anomaly_map"])]},
        {"text_config": {"color": "yellow", "background": (10, 200, 30, 90), "size": 31}},
        {"text_config": {"enable": False}},
    ],
)
def test_a_picture_is_the_one_of_anomalib(options: dict) -> None:
    visualizer = ImageVisualizer(**options)
    ours, theirs = ItemDrawing(visualizer).draw(fields()), drawn_by_anomalib(visualizer, fields())
    assert ours is not None
    assert theirs is not None
    assert ours.size == theirs.size
    difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int))
    assert difference.max() <= 2  # opacity is rounded to 8 bits


def test_a_field_that_is_missing_has_neither_a_column_nor_a_title() -> None:
    drawing = ItemDrawing(ImageVisualizer(field_size=(64, 48)))
    present = fields(32)
    assert drawing.draw(present).size == (256, 48)
    without_truth = {**present, "gt_mask": None}
    assert drawing.draw(without_truth).size == (192, 48)
    assert drawing.draw(dict.fromkeys(present)) is None


def test_fields_of_a_single_pixel_are_drawn() -> None:
    assert ItemDrawing(ImageVisualizer()).draw(fields(1)).size == (4 * SIDE, SIDE)


def test_a_caption_is_drawn_in_the_lower_left() -> None:
    drawing = ItemDrawing(ImageVisualizer())
    plain, captioned = (np.asarray(drawing.draw(fields(), caption), dtype=int) for caption in (None, "p = 0.01"))
    rows, columns, _ = np.nonzero(plain - captioned)
    assert rows.min() > SIDE - 40
    assert columns.max() < SIDE / 2
