"""Where a defect lies and what shape it has."""

from dataclasses import dataclass

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Window
from anomalib_zsad.synthetic.drawing.scene import Scene

_CONTRAST = 2.2
"""The contrast of all defects that are drawn in a colour: below 1 they are harder to see, above 1 easier."""


@dataclass(frozen=True)
class Damage:
    """A scene with a defect.

    Args:
        picture: The scene with its defect, unlit, (H, W, 3).
        cover: Where the defect was drawn, (H, W) in [0, 1].
    """

    picture: np.ndarray
    cover: np.ndarray


@dataclass(frozen=True)
class Blob:
    """A ragged patch.

    Args:
        window: The pixels that it can cover.
        u: Distance from its middle to the right, in radii, (h, w).
        v: Likewise downwards.
        reach: Distance from its middle, 1 on its outline, (h, w).
        radius: In the coordinates of the picture.
    """

    window: Window
    u: np.ndarray
    v: np.ndarray
    reach: np.ndarray
    radius: float

    def edge(self, softness: float = 0.1) -> np.ndarray:  # (h, w) in [0, 1]
        """Fill the outline, softly."""
        return np.clip((1 - self.reach) / np.float32(softness) + 0.5, 0, 1)


def spot(
    scene: Scene,
    generator: np.random.Generator,
    margin: float,
) -> tuple[float, float]:
    """Choose a point of the thing with about `margin` of it around."""
    points = generator.uniform(-0.92, 0.92, (96, 2))
    angles = np.arange(8) * np.pi / 4
    ring = np.concatenate([np.zeros((1, 2)), margin * np.stack([np.cos(angles), np.sin(angles)], -1)])
    held = sample(scene, scene.inside, (points[:, None] + ring).reshape(-1, 2)).reshape(96, 9)
    fit = np.where(held[:, 0] > 0.5, held.mean(1), -1)
    good = (fit > 0.98).nonzero()[0]
    x, y = points[good[0] if len(good) else fit.argmax()]
    return float(x), float(y)


def sample(
    scene: Scene,
    values: np.ndarray,  # (H, W)
    points: np.ndarray,  # (K, 2) x and y
) -> np.ndarray:  # (K,), 0 outside the picture
    """Read an array at points of the picture."""
    columns, rows = ((points + 1) / scene.canvas.px).astype(int).T
    size = scene.canvas.size
    within = (np.abs(points) < 1).all(-1)
    return np.where(within, values[rows.clip(0, size - 1), columns.clip(0, size - 1)], 0)


def blob(
    scene: Scene,
    generator: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    ragged: float = 0.15,
    stretch: float = 1.5,
) -> Blob:
    """Draw a patch of about the given radius, stretched at random."""
    window = scene.canvas.window(*centre, 1.9 * radius)
    u = (scene.canvas.x[window] - np.float32(centre[0])) / np.float32(radius)
    v = (scene.canvas.y[window] - np.float32(centre[1])) / np.float32(radius)
    turn, long = generator.uniform(0, np.pi), np.sqrt(generator.uniform(1, stretch))
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    a, b = (u * cos + v * sin) / np.float32(long), (v * cos - u * sin) * np.float32(long)
    angle, wave = np.arctan2(b, a), np.zeros_like(a)
    for lobes in range(2, 8):
        size = generator.normal(0, 1.4 * ragged / lobes**0.9)
        wave = wave + np.float32(size) * np.cos(lobes * angle + np.float32(generator.uniform(0, 6.3)))
    return Blob(window, u, v, np.hypot(a, b) / np.clip(1 + wave, 0.5, 1.6), radius)


def radius_of(area: float) -> float:
    """Return the radius of a disc that covers a share of the picture."""
    return float(np.sqrt(4 * area / np.pi))


def walk(
    generator: np.random.Generator,
    centre: tuple[float, float],
    length: float,
    bend: float,
    jitter: float = 0.0,
    steps: int = 24,
) -> np.ndarray:  # (steps, 2) x and y
    """Draw a line around a point: its heading drifts (bend) and jumps (jitter), radians a step."""
    drift = np.cumsum(generator.normal(0, bend / np.sqrt(steps), steps))
    headings = generator.uniform(0, 2 * np.pi) + np.cumsum(drift) + generator.normal(0, jitter, steps)
    points = np.cumsum(length / steps * np.stack([np.cos(headings), np.sin(headings)], -1), axis=0)
    return points - points[steps // 2] + np.array(centre)


def apart(
    colour: np.ndarray,  # (3,)
    base: np.ndarray,  # (3,)
    least: float = 0.25,
) -> np.ndarray:  # (3,)
    """Return the colour, or where it is too close to what it lies on, a darker or lighter one."""
    least *= _CONTRAST * (1.4 if base.mean() < 0.2 else 1)  # What is dark is dark in the light, too.
    if np.abs(np.asarray(colour) - base).max() >= least:
        return np.asarray(colour, dtype=np.float32)
    shifted = base + least if base.mean() < 0.45 else base - 1.2 * least
    return np.clip(0.5 * (np.asarray(colour) - base) + shifted, 0.02, 0.98).astype(np.float32)


def core_of(
    scene: Scene,
    base: np.ndarray,  # (3,)
) -> np.ndarray:  # (3,)
    """Return the colour below the surface."""
    if scene.material.core is None:
        return base * 0.6 + 0.38
    return np.array(scene.material.core, dtype=np.float32)
