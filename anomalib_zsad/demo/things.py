"""Normal pictures of eight things that do not exist: four surfaces and four objects, no two pictures alike."""

from collections.abc import Callable

import numpy as np
from PIL import Image

SIZE = 192
"""Height and width in pixels."""

Thing = tuple[np.ndarray, np.ndarray]
"""Picture (H, W, 3) in [0, 1], and where on it a defect may lie: (H, W) in {0, 1}."""


def cloth(generator: np.random.Generator) -> Thing:
    """Woven cloth: threads over and under one another."""
    x, y = _turned(generator.uniform(-0.15, 0.15))
    period = generator.uniform(11, 13)
    x, y = x + 2.5 * smooth_noise(generator, 6), y + 2.5 * smooth_noise(generator, 6)
    across, along = np.cos(2 * np.pi * x / period), np.cos(2 * np.pi * y / period)
    over = np.sin(np.pi * x / period) * np.sin(np.pi * y / period) > 0
    height = np.where(over, 0.75 * across + 0.25, 0.75 * along - 0.1) + 0.3 * smooth_noise(generator, 90)
    return _surface(generator, height, dark=(0.16, 0.22, 0.36), light=(0.50, 0.60, 0.76))


def wood(generator: np.random.Generator) -> Thing:
    """Planed wood: bent rings and fine fibres."""
    x, y = _turned(generator.uniform(-0.1, 0.1))
    bend = 16 * smooth_noise(generator, 3) + 0.05 * (y - generator.uniform(-60, 60)) ** 2 / 10
    rings = np.sin(2 * np.pi * (x + bend) / generator.uniform(17, 23))
    fibres = smooth_noise(generator, SIZE, 14)
    return _surface(generator, 0.55 * rings + 0.45 * fibres, dark=(0.44, 0.28, 0.14), light=(0.76, 0.56, 0.34))


def leather(generator: np.random.Generator) -> Thing:
    """Grained leather: small cells with dark seams."""
    columns, rows = np.meshgrid(np.arange(-1, 17), np.arange(-1, 17))
    seeds = (np.stack([columns, rows], -1).reshape(-1, 2) + generator.uniform(0, 1, (18 * 18, 2))) * 12.5
    y, x = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1])
    nearest = np.partition(distance, 1, axis=-1)[..., :2]
    seams = np.clip((nearest[..., 1] - nearest[..., 0]) / 4, 0, 1)
    height = 1.6 * seams - 1 + 0.25 * smooth_noise(generator, 60)
    return _surface(generator, height, dark=(0.22, 0.10, 0.07), light=(0.50, 0.26, 0.17))


def stone(generator: np.random.Generator) -> Thing:
    """Polished stone: grains of three colours."""
    picture = np.ones((SIZE, SIZE, 3)) * np.array([0.70, 0.67, 0.64])
    for cells, level, colour in (
        (44, 0.35, (0.52, 0.48, 0.47)),
        (60, 0.5, (0.86, 0.83, 0.78)),
        (70, 0.6, (0.3, 0.3, 0.32)),
    ):
        grains = np.clip((smooth_noise(generator, cells) - level) * 8, 0, 1)
        picture = blend(picture, np.array(colour), grains)
    return _lit(generator, picture), np.ones((SIZE, SIZE))


def washer(generator: np.random.Generator) -> Thing:
    """A brushed steel washer."""
    x, y = _placed(generator)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    outer, inner = generator.uniform(70, 76), generator.uniform(28, 33)
    inside = edge(radius - outer) * edge(inner - radius)
    brushed = 0.62 + 0.14 * np.cos(2 * angle + generator.uniform(0, 6)) + 0.05 * _by_radius(generator, radius)
    rim = 0.16 * np.exp(-((radius - outer + 4) ** 2) / 6) - 0.16 * np.exp(-((radius - inner - 3) ** 2) / 6)
    return _object(generator, (brushed + rim)[..., None] * np.array([0.95, 0.98, 1.0]), inside, (0.15, 0.20, 0.19))


def tablet(generator: np.random.Generator) -> Thing:
    """A pale oval tablet with a groove and specks."""
    x, y = _placed(generator, turn=0.5)
    length, width = generator.uniform(72, 80), generator.uniform(44, 50)
    reach = np.sqrt((x / length) ** 2 + (y / width) ** 2)
    inside = edge((reach - 1) * width)
    height = 0.93 - 0.25 * reach**4 - 0.2 * np.exp(-(x**2) / 10)
    specks = np.clip((smooth_noise(generator, 80) - 0.75) * 6, 0, 1)
    colour = blend(height[..., None] * np.array([1.0, 0.97, 0.9]), np.array([0.72, 0.42, 0.38]), 0.7 * specks)
    return _object(generator, colour, inside, (0.30, 0.36, 0.42))


def biscuit(generator: np.random.Generator) -> Thing:
    """A round biscuit with a scalloped rim and nine holes."""
    x, y = _placed(generator)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    outer = generator.uniform(70, 76) + 3 * np.cos(20 * angle)
    baked = 0.78 - 0.22 * (radius / outer) ** 5 + 0.05 * smooth_noise(generator, 40) + 0.04 * smooth_noise(generator, 8)
    colour = baked[..., None] * np.array([1.0, 0.78, 0.48])
    for number in range(9):
        turn, out = number * np.pi / 4, 0 if number == 8 else 40
        hole = edge(np.hypot(x - out * np.cos(turn), y - out * np.sin(turn)) - 4)
        colour = blend(colour, np.array([0.36, 0.22, 0.10]), hole)
    return _object(generator, colour, edge(radius - outer), (0.86, 0.88, 0.90))


def button(generator: np.random.Generator) -> Thing:
    """A button with four holes."""
    x, y = _placed(generator)
    radius = np.hypot(x, y)
    outer = generator.uniform(66, 74)
    height = (
        0.8 + 0.12 * np.tanh((radius - 0.72 * outer) / 2) + 0.1 * (x + y) / SIZE + 0.03 * smooth_noise(generator, 10)
    )
    colour, ground = height[..., None] * np.array([0.36, 0.62, 0.56]), np.array([0.80, 0.74, 0.66])
    for side in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        colour = blend(colour, 0.4 * ground, edge(np.hypot(x - side[0] * 15, y - side[1] * 15) - 7))
    return _object(generator, colour, edge(radius - outer), ground)


THINGS: dict[str, Callable[[np.random.Generator], Thing]] = {
    draw.__name__: draw for draw in (cloth, wood, leather, stone, washer, tablet, biscuit, button)
}


def smooth_noise(generator: np.random.Generator, columns: int, rows: int | None = None) -> np.ndarray:  # (H, W)
    """Draw noise of standard deviation 0.5 or so that changes over SIZE / columns and SIZE / rows pixels."""
    cells = generator.normal(0, 0.6, (rows or columns, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(cells).resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=float)


def edge(
    distance: np.ndarray,  # (H, W) signed, pixels, negative inside
) -> np.ndarray:  # (H, W) in [0, 1]
    """Draw a shape with a smooth outline: 1 inside, 0 outside."""
    return np.clip(0.5 - distance, 0, 1)


def blend(
    picture: np.ndarray,  # (H, W, 3)
    colour: np.ndarray,  # (3,) or (H, W, 3)
    cover: np.ndarray,  # (H, W) in [0, 1]
) -> np.ndarray:  # (H, W, 3)
    """Lay a colour over a picture."""
    return picture + (colour - picture) * cover[..., None]


def _surface(
    generator: np.random.Generator,
    height: np.ndarray,  # (H, W) about -1 to 1
    dark: tuple[float, float, float],
    light: tuple[float, float, float],
) -> Thing:
    ramp = np.clip(height / 2 + 0.5, 0, 1)[..., None]
    tint = 1 + generator.normal(0, 0.04, 3)
    return _lit(generator, (np.array(dark) * (1 - ramp) + np.array(light) * ramp) * tint), np.ones((SIZE, SIZE))


def _object(
    generator: np.random.Generator,
    colour: np.ndarray,  # (H, W, 3)
    inside: np.ndarray,  # (H, W) in [0, 1]
    ground: tuple[float, float, float] | np.ndarray,
) -> Thing:
    shade = 1 - 0.45 * np.clip(smooth_shadow(inside), 0, 1)
    background = np.array(ground) * shade[..., None] * (1 + 0.03 * smooth_noise(generator, 48))[..., None]
    return _lit(generator, blend(background, colour * (1 + generator.normal(0, 0.02, 3)), inside)), inside > 0.5


def smooth_shadow(
    inside: np.ndarray,  # (H, W)
) -> np.ndarray:  # (H, W)
    """Give the soft shadow of an object: itself, moved and blurred."""
    small = Image.fromarray(np.roll(inside, (7, 7), (0, 1)).astype(np.float32)).resize((24, 24), Image.Resampling.BOX)
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _lit(
    generator: np.random.Generator,
    picture: np.ndarray,  # (H, W, 3)
) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    slope = generator.uniform(-0.09, 0.09, 2)
    light = generator.uniform(0.93, 1.05) + slope[0] * x + slope[1] * y
    return np.clip(picture * light[..., None] + generator.normal(0, 0.012, picture.shape), 0, 1)


def _turned(angle: float, centre: tuple[float, float] = (SIZE / 2, SIZE / 2)) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    x, y = x - centre[0], y - centre[1]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _placed(generator: np.random.Generator, turn: float = np.pi) -> tuple[np.ndarray, np.ndarray]:
    x, y = SIZE / 2 + generator.uniform(-6, 6, 2)
    return _turned(generator.uniform(-turn, turn), (x, y))


def _by_radius(
    generator: np.random.Generator,
    radius: np.ndarray,  # (H, W) pixels
) -> np.ndarray:
    return np.interp(radius, np.arange(SIZE), generator.normal(0, 0.6, SIZE))
