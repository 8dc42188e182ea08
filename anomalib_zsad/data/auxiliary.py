"""A labelled dataset to train on: the auxiliary dataset of zero-shot anomaly detection."""

import logging
from collections.abc import Sequence
from typing import Any

from anomalib import TaskType
from anomalib.data import AnomalibDataModule
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.categories import Parts, parts_of
from anomalib_zsad.data.category_datamodule import CategoryDataModule, labelled, prepare
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.held_out import hold_out
from anomalib_zsad.data.item import category_of
from anomalib_zsad.data.names import tested_by
from anomalib_zsad.data.trainable import check_model
from anomalib_zsad.paths import path_component

logger = logging.getLogger(__name__)

_SEEN_SHARE = 0.1
"""The share of the training images for fitting thresholds if none is held out."""


class Auxiliary(CategoryDataModule):
    """Train on the labelled test images, with their masks, of all or some categories of any anomalib datamodule.

    A share of every category and label is held out for validation. If none is held out, as in the papers, thresholds
    and validation metrics are computed on a tenth of the training images themselves. Testing and predicting use the
    target. Without a target they use all images of the source, or the held-out share if this datamodule was used for a
    fit.

    Args:
        source: The datamodule of the dataset to train on; its own category is not used. Or a list of them, to train on
            several datasets together, where those of this package keep their categories.
        categories: The categories of a single source to use. None: all on the disk.
        target: The datamodule to test on: all categories of one of this package, else its own category.
        val_ratio: The share of the images held out for validation, from 0 (train on all) to below 1.
        **plumbing: Batch sizes, workers, augmentations and seed, as in `CategoryDataModule`.

    Example:
        >>> from anomalib.data import BTech, MVTecAD
        >>> datamodule = Auxiliary(BTech("./datasets/BTech"), target=MVTecAD("./datasets/MVTecAD", "bottle"))
        >>> both = Auxiliary([BTech("./datasets/BTech"), Auxiliary(MVTecAD("./datasets/MVTecAD"), ["pill", "wood"])])
        >>> both.name
        'BTech+MVTecAD'

    Raises:
        ValueError: There is no source, or several have categories that are not their own.
    """

    @arg.checked
    def __init__(
        self,
        source: AnomalibDataModule | list[AnomalibDataModule],
        categories: Sequence[str] | None = None,
        target: AnomalibDataModule | None = None,
        val_ratio: arg.ShareBelowOne = 0.1,
        **plumbing: Any,
    ) -> None:
        sources = source if isinstance(source, list) else [source]
        if not sources or (len(sources) > 1 and categories is not None):
            msg = f"expected a source, and `categories` in each of several, got {len(sources)} sources and {categories}"
            raise ValueError(msg)
        super().__init__(sources[0], categories, **plumbing)
        joined = sources if len(sources) > 1 else []
        self._joined = [each if isinstance(each, CategoryDataModule) else Auxiliary(each) for each in joined]
        self.target = target
        self.val_ratio = val_ratio
        self._target_parts: Parts | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """The dataset's name; several are joined by "+"."""
        return path_component("+".join(self.dataset_names)) if self._joined else super().name

    @property
    def dataset_names(self) -> list[str]:
        """The names of all sources."""
        names = [name for each in self._joined for name in each.dataset_names]
        return list(dict.fromkeys(names)) or super().dataset_names

    def dataset_with(self, category: str) -> str:
        """Return the name of the source of a category."""
        known = (each.dataset_with(category) for each in self._joined if category in each.parts())
        return next(known, self.name) if self._joined else super().dataset_with(category)

    @property
    def training_sets(self) -> list[str]:
        """The categories trained on, as "VisA/candle"."""
        return [name for each in self._joined for name in each.training_sets] or super().training_sets

    def parts(self) -> Parts:
        """The chosen categories, each as a datamodule of its own.

        Raises:
            ValueError: Several sources have a category of the same name, which would be ambiguous in tables of results.
        """
        parts = [pair for each in self._joined for pair in each.parts().items()]
        names = [name for name, _ in parts]
        if doubled := {name for name in names if names.count(name) > 1}:
            msg = (
                f"Several of {', '.join(self.dataset_names)} have the category {', '.join(sorted(doubled))}: to test "
                "on it, expected one of them. To train on all, give another dataset as the target."
            )
            raise ValueError(msg)
        return dict(parts) or super().parts()

    def setup(self, stage: str | None = None) -> None:
        """Prepare the datasets of a stage.

        Raises:
            ValueError: A model of anomalib that learns from normal images is to be trained.
        """
        if stage == TrainerFn.FITTING and self.trainer is not None:
            check_model(self, self.trainer.lightning_module)
        super().setup(stage)

    def prepare_data(self) -> None:
        """Find or download the source and the target."""
        for parts in self._source_parts():
            prepare(parts)
        if self.target is not None:
            prepare(self.target_parts())

    def target_parts(self) -> Parts:
        """The categories to test on, each as a datamodule of its own."""
        if self._target_parts is None:
            self._target_parts = self.parts() if self.target is None else _tested_by(self.target)
        return self._target_parts

    def _parts_read(self, stage: str | None) -> Parts:
        held_out = stage in {TrainerFn.FITTING, TrainerFn.VALIDATING} and hasattr(self, "train_data")
        return self.parts() if stage is None or held_out else self.target_parts()

    def read_splits(self, stage: str | None = None) -> None:
        """Read the images of a stage: the auxiliary ones to train on, or the target's."""
        if stage in {None, TrainerFn.FITTING}:
            if not hasattr(self, "train_data"):
                self._setup_training()
        elif not hasattr(self, "test_data"):
            self.test_data = labelled(self.target_parts(), self.seed)
            self.val_data = self.test_data
        if stage in {TrainerFn.TESTING, TrainerFn.PREDICTING} and not len(self.test_data):
            msg = f"No image of {self.name} is left to test on: expected a target or a val_ratio above 0."
            raise ValueError(msg)

    def _source_parts(self) -> list[Parts]:
        return [each.parts() for each in self._joined or [self]]

    def _setup_training(self) -> None:
        pools = [labelled(parts, self.seed) for parts in self._source_parts()]
        for each, pool in zip(self._joined or [self], pools, strict=True):
            _check_trainable(pool, each.name)
        if self.target is None:
            self.parts()  # refuses categories of the same name
        self.train_data, self.val_data = self._split(pools, self.val_ratio)
        self.test_data = self.val_data if self.target is None else labelled(self.target_parts(), self.seed)
        if not self.val_ratio:
            _, self.val_data = self._split(pools, _SEEN_SHARE)
            logger.info(
                "val_ratio=0: all %d images are trained on, and thresholds are fitted on %d of these same images, "
                "whose scores are better than those of new ones.",
                len(self.train_data),
                len(self.val_data),
            )
        elif self.target is None:
            logger.warning(
                "No target: testing after this training uses the %d images of %s that were held out. That is not "
                "zero-shot, since the model was trained on the same categories.",
                len(self.val_data),
                self.name,
            )

    def _split(self, pools: Sequence[CategoryDataset], ratio: float) -> tuple[CategoryDataset, CategoryDataset]:
        """Hold out the same share of every source, category and label."""
        held_out = [hold_out(pool.samples, ratio, self.seed) for pool in pools]
        return (
            _joined([pool.subsample((~held).nonzero()[0]) for pool, held in zip(pools, held_out, strict=True)]),
            _joined([pool.subsample(held.nonzero()[0]) for pool, held in zip(pools, held_out, strict=True)]),
        )


def _joined(pools: Sequence[CategoryDataset]) -> CategoryDataset:
    return pools[0] if len(pools) == 1 else CategoryDataset.concatenate(pools)


def _tested_by(target: AnomalibDataModule) -> Parts:
    target = tested_by(target)
    return parts_of(target, None if isinstance(target, CategoryDataModule) else [category_of(target)])


def _check_trainable(pool: CategoryDataset, name: str) -> None:
    if not pool.has_anomalous:
        msg = (
            f"No anomalous image among the {len(pool)} training images of {name}: zero-shot training needs normal and "
            "anomalous images with masks. Use a dataset with both, such as VisA or MVTec, or more categories."
        )
        raise ValueError(msg)
    if pool.task != TaskType.SEGMENTATION:
        msg = f"The anomalous images of {name} have no masks: zero-shot training needs a dataset with masks."
        raise ValueError(msg)
