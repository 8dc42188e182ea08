"""Pages of pictures: images beside their ground truth and their anomaly maps, with words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from anomalib.visualization import visualize_anomaly_map
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anomalib_zsad.atomic import write_picture
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.printing import printable

SIDE = 160
"""The side of a picture in pixels."""

INK = (30, 30, 30)
_GAP, _CAPTION, _TITLE = 6, 18, 34
_PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """Some pictures beside one another.

    Args:
        pictures: Of any size; they become squares.
        caption: A few words above them.
    """

    pictures: Sequence[Image.Image]
    caption: str


def save_sheet(columns: Sequence[tuple[str, Sequence[Row]]], path: Path) -> None:
    """Write the page.

    Args:
        columns: A title and the rows below it, each with the same number of pictures.
        path: The picture to write, such as `sheet.png`.
    """
    widths = [_width(max((len(row.pictures) for row in rows), default=1)) for _, rows in columns]
    height = _TITLE + max(len(rows) for _, rows in columns) * (SIDE + _CAPTION + _GAP)
    page = new_page(_GAP + sum(widths) + 2 * _GAP * (len(columns) - 1), height)
    left = _GAP
    for (title, rows), width in zip(columns, widths, strict=True):
        _draw_column(page, left, width, title, rows)
        left += width + 2 * _GAP
    write_picture(page, path)


def new_page(width: int, height: int) -> Image.Image:
    """An empty page, in pixels."""
    return Image.new("RGB", (width, height), _PAPER)


def write_line(
    page: Image.Image,
    place: tuple[float, float],
    text: str,
    size: int,
    width: int | None = None,
    colour: tuple[int, int, int] = INK,
) -> float:
    """Write a line of text onto a page.

    Args:
        page: The page.
        place: Left and upper end, in pixels.
        text: What to write; signs that steer are written out.
        size: Of the letters, in pixels.
        width: Where the text is wider, smaller letters are taken, as long as they can be read.
        colour: Of the letters.

    Returns:
        The width of the line in pixels.
    """
    text = printable(text)
    font = ImageFont.load_default(size) if width is None else _fitting(text, width, size)
    ImageDraw.Draw(page).text(place, text, fill=colour, font=font)
    return font.getlength(text)


def heat_map(
    values: NDArray[np.floating],  # (H, W)
    lowest: float | None = None,
    highest: float | None = None,
) -> Image.Image:
    """Colour an anomaly map from blue to red.

    Args:
        values: The map.
        lowest: What is blue; the map's own lowest value where none is given.
        highest: What is red; the map's own highest value where none is given.
    """
    return coloured(grey_levels(values, lowest, highest))


def grey_levels(
    values: NDArray[np.floating],  # (H, W)
    lowest: float | None = None,
    highest: float | None = None,
) -> NDArray[np.uint8]:  # (H, W)
    """Bring an anomaly map to levels from 0, at the lowest value, to 255, at the highest; see `heat_map`."""
    lowest = float(values.min()) if lowest is None else lowest
    highest = float(values.max()) if highest is None else highest
    if highest <= lowest:
        return np.zeros(values.shape, np.uint8)
    return (((values - lowest) / (highest - lowest)).clip(0, 1) * 255).round().astype(np.uint8)


def coloured(levels: NDArray[np.uint8]) -> Image.Image:  # (H, W)
    """Colour grey levels from blue to red."""
    return visualize_anomaly_map(Image.fromarray(levels))


def black_and_white(mask: NDArray[np.bool_]) -> Image.Image:  # (H, W)
    """Draw a mask: anomalous pixels are white."""
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(255))


def picture_of(path: str | Path) -> Image.Image:
    """Read an image as the model does, and make a small square of it."""
    pixels = (read_image(path).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return _square(Image.fromarray(pixels))


def _width(pictures: int) -> int:
    return pictures * (SIDE + _GAP)


def _square(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _draw_column(page: Image.Image, left: int, width: int, title: str, rows: Sequence[Row]) -> None:
    write_line(page, (left, _GAP), title, 16, width)
    for number, row in enumerate(rows):
        top = _TITLE + number * (SIDE + _CAPTION + _GAP)
        write_line(page, (left, top), row.caption, 12, width)
        for place, picture in enumerate(row.pictures):
            page.paste(_square(picture), (left + place * (SIDE + _GAP), top + _CAPTION))


def _fitting(text: str, width: int, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Choose a size at which the text fits, and no smaller one than can be read."""
    font = ImageFont.load_default(size)
    return _fitting(text, width, size - 1) if size > 8 and font.getlength(text) > width else font
