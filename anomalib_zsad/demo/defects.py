"""Four kinds of defect, drawn over a picture, each with its exact mask."""

from collections.abc import Callable

import numpy as np

from anomalib_zsad.demo.things import SIZE, Thing, blend, edge, smooth_noise

Defect = tuple[np.ndarray, np.ndarray]
"""Picture (H, W, 3) in [0, 1], mask (H, W) in {0, 1}."""


def scratch(generator: np.random.Generator, thing: Thing) -> Defect:
    """A thin bright line that bends a little."""
    line = _line(generator, thing, length=generator.uniform(45, 90), bend=0.05)
    return _laid_over(thing, np.array([0.97, 0.97, 0.95]), edge(line - generator.uniform(1.5, 2.5)), 0.85)


def thread(generator: np.random.Generator, thing: Thing) -> Defect:
    """A loose coloured thread, curled."""
    line = _line(generator, thing, length=generator.uniform(70, 110), bend=0.3)
    colour = np.array([(0.75, 0.10, 0.15), (0.10, 0.35, 0.80), (0.90, 0.75, 0.10)][generator.integers(3)])
    return _laid_over(thing, colour, edge(line - generator.uniform(2.0, 3.0)), 0.95)


def hole(generator: np.random.Generator, thing: Thing) -> Defect:
    """A dark hole with a ragged rim."""
    return _laid_over(
        thing, np.array([0.05, 0.04, 0.04]), edge(_blob(generator, thing, generator.uniform(9, 16))), 0.95
    )


def stain(generator: np.random.Generator, thing: Thing) -> Defect:
    """A translucent patch of another colour."""
    colour = np.array([(0.10, 0.12, 0.10), (0.45, 0.55, 0.10), (0.22, 0.26, 0.58)][generator.integers(3)])
    return _laid_over(thing, colour, edge(_blob(generator, thing, generator.uniform(16, 28)) / 2), 0.6)


DEFECTS: dict[str, Callable[[np.random.Generator, Thing], Defect]] = {
    draw.__name__: draw for draw in (scratch, thread, hole, stain)
}


def _laid_over(
    thing: Thing,
    colour: np.ndarray,  # (3,)
    shape: np.ndarray,  # (H, W) in [0, 1]
    opacity: float,
) -> Defect:
    picture, allowed = thing
    return blend(picture, colour, shape * allowed * opacity), (shape * allowed > 0.5).astype(float)


def _blob(
    generator: np.random.Generator,
    thing: Thing,
    radius: float,
) -> np.ndarray:  # (H, W) about the distance to a ragged outline, pixels
    y, x = np.mgrid[:SIZE, :SIZE]
    row, column = _somewhere(generator, thing)
    stretch = generator.uniform(0.75, 1.3)
    return np.hypot((x - column) * stretch, (y - row) / stretch) - radius * (1 + 0.5 * smooth_noise(generator, 16))


def _line(
    generator: np.random.Generator,
    thing: Thing,
    length: float,
    bend: float,
) -> np.ndarray:  # (H, W) distance to a random walk, pixels
    headings = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, bend, int(length / 2)))
    steps = 2 * np.stack([np.sin(headings), np.cos(headings)], -1)
    points = np.cumsum(steps, axis=0)
    points += _somewhere(generator, thing) - points[len(points) // 2]
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1]).min(-1)


def _somewhere(
    generator: np.random.Generator,
    thing: Thing,
) -> np.ndarray:  # (2,) row and column
    """Choose a pixel that may be defective, away from the border of the picture."""
    margin = 20
    inner = np.argwhere(thing[1][margin:-margin, margin:-margin])
    return inner[generator.integers(len(inner))] + margin
