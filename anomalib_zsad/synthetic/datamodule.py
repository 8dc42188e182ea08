"""Drawn pictures: a labelled dataset to train and to test on that needs no download."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, Split
from torchvision import tv_tensors

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.categories import one_category
from anomalib_zsad.data.reading import image_of, register_drawings
from anomalib_zsad.data.source import Source
from anomalib_zsad.synthetic.drawing.catalogue import CATEGORIES, SEEN, UNSEEN
from anomalib_zsad.synthetic.drawing.folder import write_pictures
from anomalib_zsad.synthetic.drawing.recipe import GOOD, SCHEME, Recipe, recipe_of


class Synthetic(Auxiliary):
    """Train on pictures of things that do not exist and test on others, drawn from a seed: 30 categories, 13 defects.

    The pictures are drawn into `root` the first time: half a minute and 140 MB for all of them. Without a root, they
    are drawn whenever they are read and no file is written. A picture is the same either way, whatever else is drawn.

    Args:
        root: The folder to draw into, in the layout of MVTec AD. None: no folder.
        categories: The categories to train on. None: `anomalib_zsad.synthetic.drawing.SEEN`.
        target: The datamodule to test on. None: drawn pictures of `target_categories`.
        target_categories: The categories to test on. None: those of `anomalib_zsad.synthetic.drawing.UNSEEN` that are
            not trained on.
        train_good: Normal training images a category, the references of few-shot detection.
        test_good: Normal images a category to train or to test on.
        test_defective: Images of each kind of defect that a category can have.
        image_size: Height and width in pixels.
        val_ratio: The share of the images held out for validation.
        seed: Seed of the pictures, of splits and of the order of the training images.
        **plumbing: Batch sizes, workers and augmentations, as in `CategoryDataModule`.

    Example:
        >>> from anomalib_zsad import Synthetic
        >>> datamodule = Synthetic(root=None, target_categories=["coin", "leather"])
    """

    @arg.checked
    def __init__(
        self,
        root: str | Path | None = "./datasets/Synthetic",
        categories: Sequence[str] | None = None,
        target: AnomalibDataModule | None = None,
        target_categories: Sequence[str] | None = None,
        train_good: arg.Images = 8,
        test_good: arg.Images = 20,
        test_defective: arg.Images = 4,
        image_size: Annotated[int, arg.Range(ge=32, le=8192)] = 224,
        val_ratio: arg.ShareBelowOne = 0.1,
        seed: arg.Seed = 0,
        **plumbing: Any,
    ) -> None:
        counts = {"train_good": train_good, "test_good": test_good, "test_defective": test_defective}
        drawn = one_category(_Drawings(Path(root) if root else None, **counts, image_size=image_size, seed=seed))
        trained = tuple(categories or SEEN)
        if target is None:
            tested = target_categories or [name for name in UNSEEN if name not in trained]
            target = AllCategories(drawn, tested, seed=seed) if tested else None
        super().__init__(drawn, trained, target, val_ratio, seed=seed, **plumbing)


@dataclass(frozen=True)
class _Drawings(Source):
    """What is drawn of each category, and where to."""

    root: Path | None
    train_good: int
    test_good: int
    test_defective: int
    image_size: int
    seed: int
    name = "Synthetic"
    categories = tuple(CATEGORIES)

    def prepare(self, category: str) -> None:
        if self.root is not None:
            write_pictures(self.root, self._recipes(category))

    def read(self, category: str) -> pd.DataFrame:
        return pd.DataFrame([self._sample(recipe) for recipe in self._recipes(category)])

    def _recipes(self, category: str) -> list[Recipe]:
        kinds = [(Split.TRAIN.value, GOOD, self.train_good), (Split.TEST.value, GOOD, self.test_good)]
        kinds += [(Split.TEST.value, defect, self.test_defective) for defect in CATEGORIES[category].defects]
        return [
            Recipe(self.seed, self.image_size, category, split, kind, number)
            for split, kind, count in kinds
            for number in range(count)
        ]

    def _sample(self, recipe: Recipe) -> dict[str, object]:
        root, is_good = self.root or recipe.root, recipe.kind == GOOD
        sample = {
            "image_path": str(root / recipe.name),
            "mask_path": "" if is_good else str(root / recipe.mask_name),
            "label_index": int(LabelName.NORMAL if is_good else LabelName.ABNORMAL),
            "split": recipe.split,
        }
        return sample if self.root else {**sample, "reader": _Reader(recipe)}


@dataclass(frozen=True)
class _Reader:
    """Draws a sample when it is read."""

    recipe: Recipe

    def read(self) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        picture = self.recipe.picture()
        return image_of(picture.image), tv_tensors.Mask(torch.from_numpy(picture.mask.astype(np.uint8)))


register_drawings(SCHEME, lambda name: recipe_of(name).picture().image)
