"""A page of pictures: images beside their ground truth and their anomaly map."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anomalib.visualization import visualize_anomaly_map
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from anomalib_zsad.atomic import whole_file

_SIDE, _GAP, _CAPTION, _TITLE = 160, 6, 18, 34
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """One image of the page.

    Args:
        image: The picture.
        truth: Its mask (H, W), true where anomalous.
        anomaly_map: (1, H, W) or (H, W); drawn from blue, its lowest value, to red, its highest.
        caption: A few words.
    """

    image: Image.Image
    truth: Tensor
    anomaly_map: Tensor
    caption: str


def save_sheet(columns: Sequence[tuple[str, Sequence[Row]]], path: Path) -> None:
    """Write the page.

    Args:
        columns: A title and the rows below it; all with the same number of rows.
        path: The picture to write, such as `sheet.png`.
    """
    width = 3 * (_SIDE + _GAP) + 3 * _GAP
    height = _TITLE + max(len(rows) for _, rows in columns) * (_SIDE + _CAPTION + _GAP)
    page = Image.new("RGB", (width * len(columns) - 3 * _GAP + _GAP, height), _PAPER)
    for number, (title, rows) in enumerate(columns):
        _draw_column(page, _GAP + number * width, title, rows)
    with whole_file(path) as temporary:
        page.save(temporary)


def _draw_column(page: Image.Image, left: int, title: str, rows: Sequence[Row]) -> None:
    pen = ImageDraw.Draw(page)
    pen.text((left, _GAP), title, fill=_INK, font=ImageFont.load_default(16))
    for number, row in enumerate(rows):
        top = _TITLE + number * (_SIDE + _CAPTION + _GAP)
        pen.text((left, top), row.caption, fill=_INK, font=ImageFont.load_default(12))
        panels = (
            row.image,
            visualize_anomaly_map(row.truth.float(), colormap=False),
            visualize_anomaly_map(row.anomaly_map, normalize=True),
        )
        for place, panel in enumerate(panels):
            small = panel.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
            page.paste(small, (left + place * (_SIDE + _GAP), top + _CAPTION))
