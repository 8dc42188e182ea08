"""Surfaces that fill the picture and objects that lie on a ground: from their looks to a scene."""

from collections.abc import Sequence

import numpy as np

from anomalib_zsad.drawing.canvas import Canvas, Pose
from anomalib_zsad.drawing.colours import Material
from anomalib_zsad.drawing.letters import CHARACTERS, letter
from anomalib_zsad.drawing.light import ground, on_ground
from anomalib_zsad.drawing.scene import Part, Scene, Shape


def lamp(generator: np.random.Generator) -> tuple[float, float]:  # x and y, length 1
    """Choose where the light comes from: any side, from above more often."""
    angle = generator.normal(-0.5 * np.pi, 1.0)
    return float(np.cos(angle)), float(np.sin(angle))


def surface(
    generator: np.random.Generator,
    canvas: Canvas,
    picture: np.ndarray,  # (H, W, 3)
    material: Material,
    colour: str,
    below: np.ndarray | None = None,  # (H, W, 3) or (3,)
    inside: np.ndarray | None = None,  # (H, W)
    parts: Sequence[Part] = (),
    pose: Pose | None = None,
) -> Scene:
    """Make a surface that fills the picture a scene.

    Args:
        generator: The source of chance.
        canvas: The pixels.
        picture: The surface.
        material: What it is made of.
        colour: The word for its colour.
        below: What a hole shows. None: near black.
        inside: Where it can be hurt. None: everywhere.
        parts: What is on it.
        pose: The coordinates of the parts.
    """
    if below is None:
        below = np.full(3, 0.06, dtype=np.float32)
    if inside is None:
        inside = np.ones_like(canvas.x)
    uneven = 1 + np.float32(generator.uniform(0, 0.1)) * canvas.noise(generator, 4)
    picture = picture.astype(np.float32, copy=False) * uneven[..., None]
    return Scene(canvas, picture, inside, material, colour, below, "", pose or Pose(), tuple(parts), lamp(generator))


def placed(
    generator: np.random.Generator,
    scale: tuple[float, float] = (0.62, 0.86),
    turn: float = np.pi,
) -> Pose:
    """Choose where an object lies; its own coordinates reach from -1 to 1."""
    size = generator.uniform(*scale)
    shift = 0.7 * (1 - size)
    x, y = generator.uniform(-shift, shift, 2)
    return Pose(float(x), float(y), float(size), float(generator.uniform(-turn, turn)))


def laid(
    generator: np.random.Generator,
    canvas: Canvas,
    pose: Pose,
    thing: np.ndarray,  # (H, W, 3)
    inside: np.ndarray,  # (H, W)
    material: Material,
    colour: str,
    parts: Sequence[Part] = (),
) -> Scene:
    """Lay an object on a ground."""
    towards = lamp(generator)
    below, words = ground(generator, canvas)
    below, picture = on_ground(
        canvas, below, thing.astype(np.float32, copy=False), inside.astype(np.float32, copy=False), towards
    )
    return Scene(canvas, picture, inside, material, colour, below, words, pose, tuple(parts), towards)


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
    """Give the shape of a disc or an ellipse."""
    return lambda u, v, px: np.clip(
        0.5 - (np.hypot(u * np.float32(stretch), v) - np.float32(radius)) / np.float32(px), 0, 1
    )
