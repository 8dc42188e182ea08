"""The pictures that the small CLIP learns from: drawn once, then cropped and flipped anew for every batch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.synthetic.drawing import CATEGORIES, DEFECTS, draw
from anomalib_zsad.synthetic.drawing.colours import MATERIALS

SIZE = 224
VARIANTS = 3
"""Pictures of a scene: one without a defect, the others with two kinds of it."""


class Pictures:
    """Scenes in files that are mapped into memory.

    Args:
        folder: Where `draw_pictures` has put them.
        scenes: How many of them.
    """

    def __init__(self, folder: Path, scenes: int) -> None:
        shape = (scenes, VARIANTS, SIZE, SIZE)
        self.images = np.memmap(folder / "images.u8", np.uint8, "r", shape=(*shape, 3))
        self.masks = np.memmap(folder / "masks.u8", np.uint8, "r", shape=shape)
        self.facts = np.load(folder / "facts.npy")  # (scenes, VARIANTS, 3): category, material, defect

    def scene(
        self,
        number: int,
        size: int,
        sides: tuple[float, float],
        generator: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:  # (VARIANTS, 3, size, size) in [0, 1], (VARIANTS, size, size)
        """Cut the same part out of all pictures of a scene; of a defect more than half is in it, or nothing.

        Args:
            number: Of the scene.
            size: Height and width in pixels that the part is brought to.
            sides: Its least and largest side as shares of the picture's.
            generator: Chooses the part, and turns and flips it.
        """
        masks = self.masks[number]
        top, left, side = self._crop(masks, sides, generator)
        rows, columns = slice(top, top + side), slice(left, left + side)
        images = torch.from_numpy(self.images[number][:, rows, columns].copy()).permute(0, 3, 1, 2).float() / 255
        cut = torch.from_numpy(masks[:, rows, columns].copy()).float()[:, None]
        if side != size:
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
            cut = F.interpolate(cut, (size, size), mode="area")
        turns, flip = int(generator.integers(4)), generator.random() < 0.5
        images, cut = torch.rot90(images, turns, (2, 3)), torch.rot90(cut, turns, (2, 3))
        return (images.flip(3), cut[:, 0].flip(2)) if flip else (images, cut[:, 0])

    @staticmethod
    def _crop(
        masks: np.ndarray,  # (VARIANTS, SIZE, SIZE)
        sides: tuple[float, float],
        generator: np.random.Generator,
    ) -> tuple[int, int, int]:
        whole = masks.reshape(VARIANTS, -1).sum(1, dtype=np.int64)
        for attempt in range(8):
            side = round(generator.uniform(sides[0] + attempt / 8 * (sides[1] - sides[0]), sides[1]) * SIZE)
            low, high = 0, SIZE - side
            if generator.random() < 0.8:  # around a pixel of a defect
                at = np.argwhere(masks[generator.integers(1, VARIANTS)])
                row, column = at[generator.integers(len(at))] if len(at) else (SIZE // 2, SIZE // 2)
                top, left = (int(np.clip(c - generator.integers(side), low, high)) for c in (row, column))
            else:
                top, left = (int(c) for c in generator.integers(high + 1, size=2))
            cut = masks[:, top : top + side, left : left + side].reshape(VARIANTS, -1).sum(1, dtype=np.int64)
            if ((cut == 0) | (cut > 0.5 * whole)).all():
                return top, left, side
        return 0, 0, SIZE


def draw_pictures(folder: Path, categories: Sequence[str], scenes: int, seed: int, processes: int = 2) -> None:
    """Draw scenes of each category in turn into a folder; does nothing where they are there.

    Args:
        folder: For the three files.
        categories: What to draw.
        scenes: How many.
        seed: Of all pictures.
        processes: That draw side by side.
    """
    if (folder / "facts.npy").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    shape = (scenes, VARIANTS, SIZE, SIZE)
    np.memmap(folder / "images.u8", np.uint8, "w+", shape=(*shape, 3)).flush()
    np.memmap(folder / "masks.u8", np.uint8, "w+", shape=shape).flush()
    parts = [
        (folder, list(categories), scenes, seed, part) for part in np.array_split(np.arange(scenes), 8 * processes)
    ]
    with ProcessPoolExecutor(processes) as pool:
        facts = np.concatenate(list(pool.map(_draw_part, parts)))
    np.save(folder / "facts.npy", facts)


def _draw_part(job: tuple[Path, list[str], int, int, np.ndarray]) -> np.ndarray:  # (n, VARIANTS, 3)
    folder, categories, scenes, seed, numbers = job
    shape = (scenes, VARIANTS, SIZE, SIZE)
    images = np.memmap(folder / "images.u8", np.uint8, "r+", shape=(*shape, 3))
    masks = np.memmap(folder / "masks.u8", np.uint8, "r+", shape=shape)
    kinds, materials = list(DEFECTS), list(MATERIALS)
    facts = np.zeros((len(numbers), VARIANTS, 3), dtype=np.int64)
    for row, number in enumerate(numbers):
        category = categories[number % len(categories)]
        generator = np.random.default_rng([seed, number])
        chosen = [None, *generator.choice(CATEGORIES[category].defects, VARIANTS - 1, replace=False)]
        for variant, kind in enumerate(chosen):
            picture = draw(category, seed * 10**6 + int(number), kind, SIZE)
            images[number, variant], masks[number, variant] = picture.image, picture.mask
            defect = kinds.index(kind) if picture.mask.any() else 0
            facts[row, variant] = number % len(categories), materials.index(picture.material), defect
    return facts


def order(count: int, size: int, seed: int, start: int) -> Iterator[np.ndarray]:
    """Give numbers of scenes without end, each once an epoch, from a step on.

    Args:
        count: Scenes in all.
        size: Scenes in a batch.
        seed: Of the order.
        start: The first step.
    """
    an_epoch = count // size
    for epoch in range(start // an_epoch, 10**9):
        numbers = np.random.default_rng([seed, epoch]).permutation(count)
        first = start % an_epoch if epoch == start // an_epoch else 0
        for step in range(first, an_epoch):
            yield numbers[step * size : (step + 1) * size]
