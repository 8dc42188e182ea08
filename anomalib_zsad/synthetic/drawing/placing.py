"""Surfaces that fill the picture and objects that lie on a ground: from their looks to a scene."""

from collections.abc import Sequence

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Canvas, Pose, mean_colour
from anomalib_zsad.synthetic.drawing.colours import Material, shade
from anomalib_zsad.synthetic.drawing.light import ground, on_ground
from anomalib_zsad.synthetic.drawing.object_parts import marks
from anomalib_zsad.synthetic.drawing.scene import Part, Scene, paint


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
        below: What a hole shows. None: a lining of any colour.
        inside: Where it can be hurt. None: everywhere.
        parts: What is on it.
        pose: The coordinates of the parts.
    """
    if below is None:
        below = shade(generator, ("black", "brown", "grey", "beige", "white"))[1] * generator.uniform(0.4, 1)
    if inside is None:
        inside = np.ones_like(canvas.x)
    pose = pose or Pose(turn=generator.uniform(-np.pi, np.pi))
    parts = (*parts, *marks(generator, picture[::8, ::8].mean((0, 1)), 2))
    uneven = 1 + np.float32(generator.uniform(0, 0.1)) * canvas.noise(generator, 4)
    picture = picture.astype(np.float32, copy=False) * uneven[..., None]
    return Scene(canvas, picture, inside, material, colour, below, "", pose, parts, lamp(generator))


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
    """Lay an object on a ground, which may carry marks of its own."""
    towards = lamp(generator)
    below, words = ground(generator, canvas)
    below = _told_apart(below, mean_colour(thing, inside))
    spread = Pose(turn=generator.uniform(-np.pi, np.pi))
    for mark in marks(generator, below[::8, ::8].mean((0, 1)), 2, 0.8):
        paint(below, canvas, spread, towards, mark)
    below, picture = on_ground(
        canvas, below, thing.astype(np.float32, copy=False), inside.astype(np.float32, copy=False), towards
    )
    return Scene(canvas, picture, inside, material, colour, below, words, pose, tuple(parts), towards)


def _told_apart(
    below: np.ndarray,  # (H, W, 3)
    colour: np.ndarray,  # (3,)
) -> np.ndarray:  # (H, W, 3)
    """Make a ground of about the colour of the thing on it darker or lighter."""
    mean = below[::8, ::8].mean((0, 1))
    if np.abs(mean - colour).max() > 0.22:
        return below
    return below * np.float32(0.5) if mean.mean() > 0.35 else below + np.float32(0.3)
