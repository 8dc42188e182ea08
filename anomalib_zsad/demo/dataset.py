"""A drawn dataset in the layout of MVTec AD."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from anomalib.data import MVTecAD
from PIL import Image

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.demo.defects import DEFECTS
from anomalib_zsad.demo.things import THINGS


class Drawn(MVTecAD):
    """One category of the drawn dataset, read as anomalib reads MVTec AD.

    Args:
        root: The folder that `draw_dataset` has written.
    """

    categories = tuple(THINGS)

    def __init__(self, root: str | Path) -> None:
        super().__init__(root, category=self.categories[0])

    @property
    def name(self) -> str:  # type: ignore[override]
        """The dataset's name."""
        return "Drawn"


def draw_dataset(
    root: Path,
    categories: Sequence[str] = tuple(THINGS),
    normal: int = 20,
    anomalous: int = 20,
    train: int = 4,
    seed: int = 0,
) -> None:
    """Draw `<category>/{train/good,test/good,test/<defect>,ground_truth/<defect>}`.

    Args:
        root: Where to put it.
        categories: Some of `THINGS`. What one looks like does not depend on the others.
        normal: Normal test images a category.
        anomalous: Anomalous test images a category, of each kind of defect in turn.
        train: Normal training images a category.
        seed: Seed of all pictures.
    """
    for category in categories:
        generator = np.random.default_rng([seed, list(THINGS).index(category)])
        draw, folder = THINGS[category], root / category
        for split, count in (("train", train), ("test", normal)):
            for number in range(count):
                _save(draw(generator)[0], folder / split / "good" / f"{number:03d}.png")
        for number in range(anomalous):
            kind, stem = list(DEFECTS)[number % len(DEFECTS)], f"{number // len(DEFECTS):03d}"
            picture, mask = DEFECTS[kind](generator, draw(generator))
            _save(picture, folder / "test" / kind / f"{stem}.png")
            _save(mask, folder / "ground_truth" / kind / f"{stem}_mask.png")


def _save(
    picture: np.ndarray,  # (H, W, 3) or (H, W), in [0, 1]
    path: Path,
) -> None:
    with whole_file(path) as temporary:
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(temporary)
