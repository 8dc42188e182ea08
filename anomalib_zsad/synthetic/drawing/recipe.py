"""Pictures of a drawn dataset by name: which picture of which category, on the disk or drawn when it is read."""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from anomalib_zsad.synthetic.drawing.picture import Picture, draw

GOOD = "good"
SCHEME = "synthetic:"
"""Begins the names of pictures that are drawn when they are read."""
_MASKS = "ground_truth"


@dataclass(frozen=True)
class Recipe:
    """What one picture of a drawn dataset is made from.

    Args:
        seed: Of the dataset.
        size: Height and width in pixels.
        category: A key of `CATEGORIES`.
        split: "train" or "test".
        kind: A key of `DEFECTS`, or "good".
        number: Counts the pictures of a kind.
    """

    seed: int
    size: int
    category: str
    split: str
    kind: str
    number: int

    @property
    def name(self) -> Path:
        """Its place in the layout of MVTec AD."""
        return Path(self.category, self.split, self.kind, f"{self.number:03d}.png")

    @property
    def mask_name(self) -> Path:
        """The place of its mask."""
        return Path(self.category, _MASKS, self.kind, f"{self.number:03d}_mask.png")

    def picture(self) -> Picture:
        """Draw it."""
        return _drawn(self)

    @property
    def root(self) -> Path:
        """The root of names that stand for pictures without a file; `recipe_of` reads them."""
        return Path(SCHEME, str(self.seed), str(self.size))


def recipe_of(name: str) -> Recipe:
    """Read the name of a picture below `Recipe.root`."""
    _, seed, size, category, split, kind, file = Path(name).parts
    return Recipe(int(seed), int(size), category, split, kind, int(Path(file).stem))


@lru_cache(maxsize=16)
def _drawn(recipe: Recipe) -> Picture:
    # The name decides, so that a picture depends neither on the other categories nor on their counts.
    seed = zlib.crc32(f"{recipe.seed}/{recipe.name.as_posix()}".encode())
    return draw(recipe.category, seed, None if recipe.kind == GOOD else recipe.kind, recipe.size)
