"""A picture of a thing, with or without a defect."""

import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from anomalib_zsad.synthetic.drawing.canvas import Canvas
from anomalib_zsad.synthetic.drawing.catalogue import CATEGORIES, DEFECTS
from anomalib_zsad.synthetic.drawing.light import Light, light
from anomalib_zsad.synthetic.drawing.scene import Scene

_LEAST_AREA, _MOST_AREA = 0.01, 0.16
_SKEW = 0.5
"""Below 1 there are more large defects than small ones."""
_VISIBLE = 0.06
"""The least difference between the picture and that without the defect, of 1."""
_ATTEMPTS = 24


@dataclass(frozen=True)
class Picture:
    """A drawn picture and its attributes.

    Args:
        image: (H, W, 3) uint8.
        mask: True where the defect is, (H, W).
        category: A key of `CATEGORIES`.
        material: What the thing is made of.
        defect: A key of `DEFECTS`; None for a normal picture.
        words: What else a caption can say: `colour`, `background` ("" for a texture), and `place` and `size` of
            the defect ("" for a normal picture).
    """

    image: np.ndarray
    mask: np.ndarray
    category: str
    material: str
    defect: str | None
    words: dict[str, str]


def draw(category: str, seed: int, defect: str | None = None, size: int = 224) -> Picture:
    """Draw a picture.

    The same seed gives the same scene with every defect and without: pose, colours, light and noise.

    Args:
        category: A key of `CATEGORIES`.
        seed: Of everything in it.
        defect: One of the category's defects. None: a normal picture.
        size: Height and width in pixels.

    Raises:
        ValueError: The category is unknown, or has no such defect.
    """
    scene, lit = scene_of(category, seed, size)
    kinds = CATEGORIES[category].defects
    if defect is not None and defect not in kinds:
        msg = f"A {category} has no defect {defect!r}, expected one of: {', '.join(kinds)}."
        raise ValueError(msg)
    picture = lit.on(scene.composed())
    words = {"colour": scene.colour, "background": scene.background, "place": "", "size": ""}
    mask = np.zeros((size, size), dtype=bool)
    if defect is not None:
        hurt = np.random.default_rng([seed, zlib.crc32(category.encode()), zlib.crc32(defect.encode())])
        picture, mask = _damaged(scene, lit, picture, defect, hurt)
        words |= {"place": place_of(mask), "size": size_of(mask)}
    return Picture((picture * 255).round().astype(np.uint8), mask, category, scene.material.name, defect, words)


def scene_of(category: str, seed: int, size: int = 224) -> tuple[Scene, Light]:
    """Return the scene that `draw` draws, and the light on it.

    Args:
        category: A key of `CATEGORIES`.
        seed: As for `draw`.
        size: Height and width in pixels.

    Raises:
        ValueError: The category is unknown.
    """
    if category not in CATEGORIES:
        msg = f"Unknown category {category!r}, expected one of: {', '.join(CATEGORIES)}."
        raise ValueError(msg)
    generator = np.random.default_rng([seed, zlib.crc32(category.encode())])
    scene = CATEGORIES[category].draw(generator, Canvas(size))
    return scene, light(generator, scene.canvas, scene.lamp, scene.material.gloss)


def place_of(
    mask: np.ndarray,  # (H, W)
) -> str:
    """Name the ninth of the picture that holds the middle of a mask."""
    rows, columns = mask.nonzero()
    row, column = (min(int(3 * values.mean() / len(mask)), 2) for values in (rows, columns))
    if row == column == 1:
        return "centre"
    if row == 1:
        return ("left", "", "right")[column]
    if column == 1:
        return ("top", "", "bottom")[row]
    return f"{('upper', '', 'lower')[row]} {('left', '', 'right')[column]}"


def size_of(
    mask: np.ndarray,  # (H, W)
) -> str:
    """Name the size of a defect by its share of the picture."""
    share = mask.mean()
    return "small" if share < 0.008 else "medium" if share < 0.025 else "large"


def _damaged(
    scene: Scene,
    lit: Light,
    normal: np.ndarray,  # (H, W, 3), lit
    defect: str,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # (H, W, 3) lit, (H, W) mask
    most = min(_MOST_AREA, 0.25 * float(scene.inside.mean()))
    best = normal, np.zeros_like(scene.inside, dtype=bool)
    for attempt in range(_ATTEMPTS):
        least = 2 * _LEAST_AREA
        area = least * (most / least) ** float(generator.random() ** _SKEW)
        damage = DEFECTS[defect](scene, generator, area)
        picture = lit.on(damage.picture)
        mask = _visible(_largest(np.abs(picture - normal)), damage.cover, _VISIBLE / (1 + attempt // 8))
        near = _grown(mask, scene.canvas.size)
        if mask.mean() > best[1].mean() and mask.mean() <= 1.3 * _MOST_AREA:
            best = np.where(near[..., None], picture, normal), mask
        if best[1].mean() >= _LEAST_AREA:
            break
    return best


def _visible(
    change: np.ndarray,  # (H, W)
    cover: np.ndarray,  # (H, W)
    least: float,
) -> np.ndarray:  # (H, W) bool
    """Keep the pixels of a shape where, there or around, the picture has changed to be seen."""
    seen = Image.fromarray(((change > least) & (cover > 0.25)).astype(np.uint8) * 255)
    around = np.asarray(seen.filter(ImageFilter.BoxBlur(max(round(len(change) / 112), 1))))
    return (around > 0.3 * 255) & (cover > 0.25)


def _largest(
    channels: np.ndarray,  # (H, W, 3)
) -> np.ndarray:  # (H, W)
    # Several times as fast as max(-1).
    return np.maximum(np.maximum(channels[..., 0], channels[..., 1]), channels[..., 2])


def _grown(
    mask: np.ndarray,  # (H, W)
    size: int,
) -> np.ndarray:  # (H, W) bool
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(max(round(size / 112), 1)))
    return np.asarray(blurred) > 0
