"""The ground that things lie on and the light that falls on them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Canvas, blend, turned
from anomalib_zsad.synthetic.drawing.colours import shade

_GROUNDS = {
    "plain": 0.25, "wooden": 0.15, "woven": 0.15, "speckled": 0.15, "brushed": 0.15,
    "striped": 0.05, "checked": 0.05, "dotted": 0.05,
}  # fmt: skip
"""How often each occurs."""
_GROUND_COLOURS = ("white", "grey", "black", "beige", "brown", "green", "blue")


_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "striped": lambda x, y: np.sin(x) + 0 * y,
    "checked": lambda x, y: np.sin(x) * np.sin(y),
    "dotted": lambda x, y: np.cos(x) + np.cos(y) - np.float32(0.9),
}


@dataclass(frozen=True)
class Light:
    """What the light and the camera do to a picture.

    Args:
        level: Brightness and colour of the light, (H, W, 3).
        shine: Highlights, added, (H, W, 1).
        grain: Noise of the camera, added, (H, W, 1).
    """

    level: np.ndarray
    shine: np.ndarray
    grain: np.ndarray

    def on(
        self,
        picture: np.ndarray,  # (H, W, 3)
    ) -> np.ndarray:  # (H, W, 3) in [0, 1]
        """Light a picture."""
        return np.clip(picture * self.level + self.shine + self.grain, 0, 1)


def ground(
    generator: np.random.Generator,
    canvas: Canvas,
) -> tuple[np.ndarray, str]:  # (H, W, 3), words
    """Draw what an object lies on."""
    kind = str(generator.choice(list(_GROUNDS), p=list(_GROUNDS.values())))
    name, colour = shade(generator, ("brown", "beige", "grey") if kind == "wooden" else _GROUND_COLOURS)
    x, y = turned(canvas.x, canvas.y, generator.uniform(0, np.pi))
    if kind == "wooden":
        bend = canvas.noise(generator, 3)
        height = 0.5 * np.sin((x + 0.2 * bend) * np.float32(generator.uniform(18, 30))) + 0.7 * canvas.noise(
            generator, 60, 6
        )
    elif kind == "woven":
        period = np.float32(2 * np.pi / generator.uniform(0.05, 0.09))
        height = np.sin(x * period) * np.sin(y * period)
    elif kind == "speckled":
        height = 1.6 * canvas.noise(generator, 70)
    elif kind == "brushed":
        height = 1.2 * canvas.noise(generator, 5, 90)
    else:
        height = 0.4 * canvas.noise(generator, 6)
    strength = generator.uniform(0.04, 0.13)
    picture = colour * (1 + np.float32(strength) * height)[..., None]
    if kind in _PATTERNS:
        wave = np.float32(2 * np.pi / generator.uniform(0.25, 0.6))
        pattern = _PATTERNS[kind](x * wave, y * wave)
        picture = blend(picture, shade(generator, _GROUND_COLOURS)[1], np.clip(0.5 + 6 * pattern, 0, 1))
    return picture, f"{name} {kind}"


def light(
    generator: np.random.Generator,
    canvas: Canvas,
    lamp: tuple[float, float],
    gloss: float,
) -> Light:
    """Light a scene: from one side, warm or cold, at times with a cast shadow, a vignette and highlights.

    Args:
        generator: The source of chance.
        canvas: The pixels.
        lamp: The direction from which the light comes.
        gloss: Strength of highlights.
    """
    x, y = canvas.x, canvas.y
    towards = x * np.float32(lamp[0]) + y * np.float32(lamp[1])
    level: np.ndarray = np.float32(generator.uniform(0.75, 1.02)) + np.float32(generator.uniform(0, 0.18)) * towards
    depth, bend = generator.uniform(0.2, 0.5), generator.uniform(-0.5, 0.5)
    along, across = turned(x, y, generator.uniform(0, 2 * np.pi))
    start, softness, width = generator.uniform(-0.8, 0.8), generator.uniform(0.03, 0.3), generator.uniform(0.2, 1.5)
    blinds, casts = generator.uniform(0.3, 0.7), generator.random()
    if casts < 0.1:  # Light through blinds.
        along = (along / np.float32(blinds)) % 1 * np.float32(blinds)
        start, softness, width = 0.0, min(softness, 0.1), float(0.5 * blinds)
    if casts < 0.45:
        distance = along - np.float32(start) + np.float32(bend) * across * across
        band = np.clip(distance / np.float32(softness), 0, 1) * np.clip((width - distance) / np.float32(softness), 0, 1)
        level = level * (1 - np.float32(depth) * band)
    vignette = generator.uniform(0, 0.25) * (generator.random() < 0.5)
    level = level * (1 - np.float32(vignette) * (x * x + y * y))
    shine = np.zeros_like(level)
    where, reach, thin = generator.uniform(-0.7, 0.7, 2), generator.uniform(0.1, 0.5), generator.uniform(1, 3)
    strength = generator.uniform(0.2, 1) * gloss * (generator.random() < 0.7)
    if strength > 0.02:
        a, b = turned(x - np.float32(where[0]), y - np.float32(where[1]), generator.uniform(0, np.pi))
        shine = np.float32(strength) * np.exp(-(a * a * np.float32(thin) + b * b) / np.float32(reach * reach))
    warmth = float(generator.normal(0, 0.05))
    tint = np.array([1 + warmth, 1 + generator.normal(0, 0.015), 1 - warmth], dtype=np.float32)
    grain = generator.uniform(0.004, 0.02) * generator.standard_normal(x.shape, dtype=np.float32)
    return Light(level[..., None] * tint, shine[..., None], grain[..., None].astype(np.float32))


def on_ground(
    canvas: Canvas,
    below: np.ndarray,  # (H, W, 3)
    thing: np.ndarray,  # (H, W, 3)
    inside: np.ndarray,  # (H, W)
    lamp: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:  # (H, W, 3) ground with the shadow, (H, W, 3) thing and ground
    """Lay a thing on the ground, with its soft shadow."""
    far = canvas.size // 28
    moved = np.roll(inside, (round(-far * lamp[1]), round(-far * lamp[0])), (0, 1))
    shaded = below * (1 - np.float32(0.5) * np.clip(canvas.blurred(moved, 28), 0, 1))[..., None]
    return shaded, blend(shaded, thing, inside)
