"""Coordinates, noise and shapes: what every drawing is made of.

Lengths are relative: the picture reaches from -1 to 1 in x and y, so that a scene looks the same at every size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image, ImageDraw

Window = tuple[slice, slice]
"""Rows and columns of a part of the picture."""


@dataclass(frozen=True)
class Canvas:
    """The pixels of a square picture.

    Args:
        size: Height and width in pixels.
    """

    size: int

    @property
    def px(self) -> float:
        """The width of a pixel."""
        return 2 / self.size

    @cached_property
    def x(self) -> np.ndarray:  # (H, W)
        """Where every pixel lies, left to right."""
        return _grid(self.size)[0]

    @cached_property
    def y(self) -> np.ndarray:  # (H, W)
        """Where every pixel lies, top to bottom."""
        return _grid(self.size)[1]

    def window(self, x: float, y: float, reach: float) -> Window:
        """Return the part of the picture within `reach` of a point."""
        left, right, top, bottom = (
            int(np.clip((value + 1) / self.px, 0, self.size))
            for value in (x - reach, x + reach + self.px, y - reach, y + reach + self.px)
        )
        return slice(top, bottom), slice(left, right)

    def noise(
        self,
        generator: np.random.Generator,
        columns: int,
        rows: int | None = None,
    ) -> np.ndarray:  # (H, W), standard deviation about 0.5
        """Draw smooth noise that changes over 2 / columns and 2 / rows."""
        cells = generator.normal(0, 0.6, (rows or columns, columns)).astype(np.float32)
        return stretched(cells, self.size)

    def strokes(
        self,
        lines: Sequence[np.ndarray],  # each (K, 2) x and y
        widths: Sequence[float],
    ) -> np.ndarray:  # (H, W) in [0, 1]
        """Draw lines with smooth edges."""
        fine = 3 * self.size
        page = Image.new("L", (fine, fine))
        pen = ImageDraw.Draw(page)
        for points, width in zip(lines, widths, strict=True):
            thick = max(round(width / 2 * fine), 1)
            dots = [(float(x), float(y)) for x, y in (points + 1) / 2 * fine]
            pen.line(dots, fill=255, width=thick, joint="curve")
            for x, y in (dots[0], dots[-1]):
                pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=255)
        return np.asarray(page.reduce(3), dtype=np.float32) / 255

    def blurred(
        self,
        cover: np.ndarray,  # (H, W)
        cells: int = 24,
    ) -> np.ndarray:  # (H, W)
        """Blur over about 2 / cells."""
        small = Image.fromarray(cover.astype(np.float32)).resize((cells, cells), Image.Resampling.BOX)
        return np.asarray(small.resize((self.size, self.size), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Pose:
    """Where an object lies: its own coordinates are turned, scaled and shifted ones of the picture."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    turn: float = 0.0

    def local(
        self,
        x: np.ndarray,  # (H, W)
        y: np.ndarray,  # (H, W)
    ) -> tuple[np.ndarray, np.ndarray]:  # (H, W), (H, W)
        """Return the object's own coordinates of points of the picture."""
        return turned((x - np.float32(self.x)) / self.scale, (y - np.float32(self.y)) / self.scale, self.turn)

    def world(self, u: float, v: float) -> tuple[float, float]:
        """Return the picture's coordinates of a point of the object."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return self.x + self.scale * (u * cos - v * sin), self.y + self.scale * (u * sin + v * cos)


def turned(
    x: np.ndarray,  # (H, W)
    y: np.ndarray,  # (H, W)
    angle: float,
) -> tuple[np.ndarray, np.ndarray]:  # (H, W), (H, W)
    """Turn coordinates, radians."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def edge(
    distance: np.ndarray,  # (H, W), signed, negative inside
    px: float,
) -> np.ndarray:  # (H, W) in [0, 1]
    """Draw a shape with a smooth outline: 1 inside, 0 outside."""
    return np.clip(0.5 - distance / np.float32(px), 0, 1)


def box(
    u: np.ndarray,  # (H, W)
    v: np.ndarray,  # (H, W)
    width: float,
    height: float,
    corner: float = 0.0,
) -> np.ndarray:  # (H, W) signed distance
    """Return the distance to a rectangle with round corners; width and height are halves."""
    du, dv = np.abs(u) - np.float32(width - corner), np.abs(v) - np.float32(height - corner)
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    return outside + np.minimum(np.maximum(du, dv), 0) - np.float32(corner)


def blend(
    picture: np.ndarray,  # (H, W, 3)
    colour: np.ndarray,  # (3,) or (H, W, 3)
    cover: np.ndarray,  # (H, W) in [0, 1]
) -> np.ndarray:  # (H, W, 3)
    """Lay a colour over a picture."""
    opacity = cover[..., None].astype(np.float32, copy=False)
    return picture + (np.asarray(colour, dtype=np.float32) - picture) * opacity


def mean_colour(
    picture: np.ndarray,  # (H, W, 3)
    cover: np.ndarray,  # (H, W) in [0, 1]
) -> np.ndarray:  # (3,)
    """Average a picture under a shape."""
    rows, columns = (cover > 0.3).nonzero()
    rows, columns = rows[:: len(rows) // 2000 + 1], columns[:: len(rows) // 2000 + 1]
    return picture[rows, columns].mean(0) if len(rows) else np.full(3, 0.5, dtype=np.float32)


def cells(
    generator: np.random.Generator,
    u: np.ndarray,  # (H, W)
    v: np.ndarray,  # (H, W)
    period: float,
) -> tuple[np.ndarray, np.ndarray]:  # (H, W) distance between the two nearest seeds, (H, W) a number a cell in [0, 1]
    """Divide the plane into irregular cells: 0 on the seams, up to about `period` inside."""
    seams, numbers = _cell_bank(int(generator.integers(4)))
    side = len(seams)
    step = side / (_CELLS * period)
    columns, rows = ((w * np.float32(step)).astype(np.int32) % side for w in (u, v))
    return seams[rows, columns] * np.float32(period), numbers[rows, columns]


def stretched(
    values: np.ndarray,  # (h, w) float32
    size: int,
) -> np.ndarray:  # (H, W)
    """Enlarge an array smoothly."""
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


_CELLS = 24


@lru_cache(maxsize=4)
def _cell_bank(seed: int, side: int = 480) -> tuple[np.ndarray, np.ndarray]:  # (side, side), (side, side)
    # Measuring distances afresh for every picture would take longer than all the rest of it.
    generator = np.random.default_rng(seed)
    table = generator.random((_CELLS, _CELLS, 3), dtype=np.float32)
    line = (np.arange(side, dtype=np.float32) + 0.5) * (_CELLS / side)
    v, u = np.meshgrid(line, line, indexing="ij")
    row, column = v.astype(np.int32), u.astype(np.int32)
    first = np.full(u.shape, np.inf, dtype=np.float32)
    second, number = first.copy(), np.zeros_like(first)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            seeds = table[(row + down) % _CELLS, (column + right) % _CELLS]
            distance = np.hypot(seeds[..., 0] + column + right - u, seeds[..., 1] + row + down - v)
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            number = np.where(nearer, seeds[..., 2], number)
            first = np.where(nearer, distance, first)
    return second - first, number
