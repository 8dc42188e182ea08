"""A thing before the light falls on it: its surface, its parts and the ground below it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Canvas, Pose, Window, blend, turned
from anomalib_zsad.synthetic.drawing.colours import Material

Shape = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""Maps the part's own coordinates (h, w), (h, w) and the width of a pixel to its cover (h, w) in [0, 1]."""


Tint = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps the part's own coordinates to its colours (h, w, 3)."""


@dataclass(frozen=True, eq=False)
class Part:
    """Something on a thing that can be missing, askew or misprinted.

    Args:
        u: Its centre, in the coordinates of the thing.
        v: Likewise.
        reach: The radius that holds all of it.
        shape: Its outline.
        colour: RGB, shape (3,), or a function of the part's own coordinates.
        turn: Radians.
        relief: Light on the one side of it and shade on the other.
        role: A print can be misprinted; a fixed part is neither missing nor askew.
    """

    u: float
    v: float
    reach: float
    shape: Shape
    colour: np.ndarray | Tint
    turn: float = 0.0
    relief: float = 0.0
    role: Literal["part", "print", "fixed"] = "part"

    def moved(self, u: float, v: float, turn: float) -> "Part":
        """Return the part shifted and turned."""
        return replace(self, u=self.u + u, v=self.v + v, turn=self.turn + turn)


@dataclass
class Scene:
    """A thing on its ground.

    Args:
        canvas: The pixels.
        bare: The thing and the ground without the parts, (H, W, 3).
        inside: Where the thing is, (H, W) in [0, 1].
        material: What it is made of.
        colour: The word for its colour.
        ground: What is below the thing, (H, W, 3) or (3,).
        background: The words for the ground; none for a surface that fills the picture.
        pose: Where it lies.
        parts: What is on it.
        lamp: The direction from which the light comes, (2,) x and y.
    """

    canvas: Canvas
    bare: np.ndarray
    inside: np.ndarray
    material: Material
    colour: str
    ground: np.ndarray
    background: str = ""
    pose: Pose = field(default_factory=Pose)
    parts: Sequence[Part] = ()
    lamp: tuple[float, float] = (-0.7, -0.7)

    def composed(
        self,
        parts: Sequence[Part] | None = None,
    ) -> np.ndarray:  # (H, W, 3)
        """Draw the thing with its parts, or with others instead."""
        picture = self.bare.copy()
        for part in self.parts if parts is None else parts:
            paint(picture, self.canvas, self.pose, self.lamp, part)
        return picture

    def window_of(self, part: Part) -> Window:
        """Return the pixels that a part can cover."""
        return part_window(self.canvas, self.pose, part)


def part_window(canvas: Canvas, pose: Pose, part: Part) -> Window:
    """Return the pixels that a part can cover."""
    x, y = pose.world(part.u, part.v)
    return canvas.window(x, y, part.reach * pose.scale)


def paint(
    picture: np.ndarray,  # (H, W, 3), changed in place
    canvas: Canvas,
    pose: Pose,
    lamp: tuple[float, float],
    part: Part,
    opacity: float = 1.0,
) -> None:
    """Draw a part onto a picture."""
    window = part_window(canvas, pose, part)
    u, v = pose.local(canvas.x[window], canvas.y[window])
    u, v = turned(u - np.float32(part.u), v - np.float32(part.v), part.turn)
    cover = part.shape(u, v, canvas.px / pose.scale)
    colour = part.colour(u, v) if callable(part.colour) else part.colour
    if part.relief:
        (across, down), turn = lamp, pose.turn + part.turn
        towards = across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)
        slope = (u * np.float32(towards[0]) + v * np.float32(towards[1])) / np.float32(part.reach)
        colour = np.asarray(colour, dtype=np.float32) * (1 + np.float32(part.relief) * slope)[..., None]
    picture[window] = blend(picture[window], np.asarray(colour, dtype=np.float32), cover * np.float32(opacity))
