"""Letters, discs and bars, and the marks that a normal thing may carry."""

from dataclasses import replace

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import box, edge
from anomalib_zsad.synthetic.drawing.colours import COLOURS, shade
from anomalib_zsad.synthetic.drawing.letters import CHARACTERS, letter
from anomalib_zsad.synthetic.drawing.scene import Part, Shape


def text(
    generator: np.random.Generator,
    count: int,
    height: float,
    u: float,
    v: float,
    ink: np.ndarray,  # (3,)
    relief: float = 0.0,
    radius: float | None = None,
) -> list[Part]:
    """Set letters in a row, or on a circle.

    Args:
        generator: The source of chance.
        count: Letters.
        height: Of a letter.
        u: Their middle; the circle's centre.
        v: Likewise.
        ink: Their colour.
        relief: Light on one side, for embossed letters.
        radius: Of the circle. None: a straight row.
    """
    parts = []
    for number, character in enumerate(generator.choice(list(CHARACTERS), count)):
        step = number - (count - 1) / 2
        angle = 0.0 if radius is None else step * height * 0.95 / radius
        right = u + (step * height * 0.9 if radius is None else radius * np.sin(angle))
        down = v if radius is None else v - radius * np.cos(angle)
        parts.append(Part(right, down, 0.75 * height, _shape(character, height), ink, angle, relief, role="print"))
    return parts


def _shape(character: str, height: float) -> Shape:
    def cover(u: np.ndarray, v: np.ndarray, px: float) -> np.ndarray:  # noqa: ARG001
        return letter(character, u, v, height)

    return cover


def disc(radius: float, stretch: float = 1.0) -> Shape:
    """Return the shape of a disc or an ellipse."""
    return lambda u, v, px: np.clip(
        0.5 - (np.hypot(u * np.float32(stretch), v) - np.float32(radius)) / np.float32(px), 0, 1
    )


def bar(width: float, height: float, corner: float = 0.0) -> Shape:
    """Return the shape of a rectangle with round corners; width and height are halves."""
    return lambda u, v, px: edge(box(u, v, width, height, corner), px)


def ring(radius: float, width: float) -> Shape:
    """Return the shape of a ring."""
    return lambda u, v, px: edge(np.abs(np.hypot(u, v) - np.float32(radius)) - np.float32(width), px)


def marks(
    generator: np.random.Generator,
    base: np.ndarray,  # (3,)
    most: int,
    reach: float = 0.62,
) -> list[Part]:
    """Choose marks that belong there, each in a corner of its own: stamps, labels, seals and rows of dots.

    They stand out as much as a defect does and are none, so that a detector of salient regions is misled.

    Args:
        generator: The source of chance.
        base: The colour below.
        most: How many there may be, up to 4; often fewer.
        reach: How far from the middle they lie.
    """
    parts: list[Part] = []
    corners = generator.permutation(4)[: generator.integers(0, most + 1)]
    for corner in corners:
        across, down = ((-1, -1), (1, -1), (-1, 1), (1, 1))[corner]
        u, v = across * generator.uniform(0.5, 1) * reach, down * generator.uniform(0.5, 1) * reach
        ink = shade(generator, tuple(COLOURS))[1]
        ink = ink if np.abs(ink - base).max() > 0.3 else np.clip(1.05 - base, 0.05, 0.95)
        pale = np.array([0.95, 0.94, 0.9] if ink.mean() < 0.5 else [0.12, 0.12, 0.14])
        size = generator.uniform(0.1, 0.2)
        parts += _MARKS[int(generator.integers(len(_MARKS)))](generator, u, v, size, ink, pale)
    return [replace(part, role="fixed") for part in parts]


def _stamp(
    generator: np.random.Generator, u: float, v: float, size: float, ink: np.ndarray, _pale: np.ndarray
) -> list[Part]:
    return text(generator, int(generator.integers(3, 6)), 0.9 * size, u, v, ink)


def _label(
    generator: np.random.Generator, u: float, v: float, size: float, ink: np.ndarray, pale: np.ndarray
) -> list[Part]:
    count = int(generator.integers(2, 4))
    wide = 0.42 * size * count + 0.3 * size
    return [
        Part(u, v, 1.1 * float(np.hypot(wide, 0.7 * size)), bar(wide, 0.7 * size, 0.2 * size), ink),
        *text(generator, count, 0.85 * size, u, v, pale),
    ]


def _seal(
    generator: np.random.Generator, u: float, v: float, size: float, ink: np.ndarray, pale: np.ndarray
) -> list[Part]:
    if generator.random() < 0.5:
        outer, letters = Part(u, v, 1.2 * size, ring(size, 0.12 * size), ink), ink
    else:
        outer, letters = Part(u, v, 1.1 * size, disc(size), ink), pale
    return [outer, *text(generator, 1, 1.1 * size, u, v, letters)]


def _dots(
    generator: np.random.Generator, u: float, v: float, size: float, ink: np.ndarray, pale: np.ndarray
) -> list[Part]:
    inks = (ink, pale, shade(generator, tuple(COLOURS))[1])
    return [Part(u + (n - 1) * 0.9 * size, v, 0.45 * size, disc(0.38 * size), inks[n]) for n in range(3)]


_MARKS = (_stamp, _label, _seal, _dots)
