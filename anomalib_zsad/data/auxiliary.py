"""A labelled dataset to train on: the auxiliary dataset of zero-shot anomaly detection."""

import logging
from collections.abc import Sequence
from typing import Any

from anomalib import TaskType
from anomalib.data import AnomalibDataModule
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.category_datamodule import CategoryDataModule, Parts, labelled, prepare
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.held_out import hold_out
from anomalib_zsad.data.item import category_of
from anomalib_zsad.data.parts import parts_of
from anomalib_zsad.data.trainable import check_model

logger = logging.getLogger(__name__)

_SEEN_SHARE = 0.1
"""The share of the training images that thresholds are fitted on where none is held out."""


class Auxiliary(CategoryDataModule):
    """Train on the labelled test images, with their masks, of all or some categories of any anomalib datamodule.

    A share of them is held out for validation, of every category and label alike. Where none is held out, as in the
    papers, thresholds and validation metrics come from a tenth of the very training images. Testing and predicting use
    the target. Without a target they use all images of the source, unless this datamodule was fitted on before: then
    the held-out share.

    Args:
        source: The datamodule that knows the dataset to train on. Its own category counts for nothing.
        categories: The categories to use. None: all that are there.
        target: The datamodule to test on: all its categories where it is one of this package, else the one it is
            set to.
        val_ratio: The share of the images held out for validation, from 0 (train on all) to below 1.
        **plumbing: Batch sizes, workers, augmentations and seed, as in `CategoryDataModule`.

    Example:
        >>> from anomalib.data import BTech, MVTecAD
        >>> datamodule = Auxiliary(BTech("./datasets/BTech"), target=MVTecAD("./datasets/MVTecAD", "bottle"))
    """

    @arg.checked
    def __init__(
        self,
        source: AnomalibDataModule,
        categories: Sequence[str] | None = None,
        target: AnomalibDataModule | None = None,
        val_ratio: arg.ShareBelowOne = 0.1,
        **plumbing: Any,
    ) -> None:
        super().__init__(source, categories, **plumbing)
        self.target = target
        self.val_ratio = val_ratio
        self._target_parts: Parts | None = None

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
        super().prepare_data()
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

    def _setup(self, stage: str | None = None) -> None:
        if stage in {None, TrainerFn.FITTING}:
            if not hasattr(self, "train_data"):
                self._setup_training()
        elif not hasattr(self, "test_data"):
            self.test_data = labelled(self.target_parts(), self.seed)
            self.val_data = self.test_data
        if stage in {TrainerFn.TESTING, TrainerFn.PREDICTING} and not len(self.test_data):
            msg = f"No image of {self.name} is left to test on: expected a target or a val_ratio above 0."
            raise ValueError(msg)

    def _setup_training(self) -> None:
        pool = labelled(self.parts(), self.seed)
        _check_trainable(pool, self.name)
        held_out = hold_out(pool.samples, self.val_ratio, self.seed)
        self.train_data = pool.subsample((~held_out).nonzero()[0])
        self.val_data = pool.subsample(held_out.nonzero()[0])
        self.test_data = self.val_data if self.target is None else labelled(self.target_parts(), self.seed)
        if not self.val_ratio:
            self.val_data = pool.subsample(hold_out(pool.samples, _SEEN_SHARE, self.seed).nonzero()[0])
            logger.info(
                "val_ratio=0: all %d images are trained on, and thresholds are fitted on %d of these same images, "
                "whose scores are better than those of new ones.",
                len(pool),
                len(self.val_data),
            )
        elif self.target is None:
            logger.warning(
                "No target: testing after this training uses the %d images of %s that were held out. That is not "
                "zero-shot, since the model was trained on the same categories.",
                len(self.val_data),
                self.name,
            )


def _tested_by(target: AnomalibDataModule) -> Parts:
    while isinstance(target, Auxiliary) and target.target is not None:
        target = target.target
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
