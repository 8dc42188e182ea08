"""The part of trained models that anomalib and Lightning call."""

import logging
from collections.abc import Sized
from typing import Any, ClassVar

import torch
from anomalib.data import Batch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from anomalib_zsad.clip.embedded import embedded_file
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.soft_mask import SoftMask
from anomalib_zsad.data.trainable import check_before_setup, check_trainable
from anomalib_zsad.models.parts.compiling import begin_step, kept
from anomalib_zsad.models.parts.detector import Detector
from anomalib_zsad.models.parts.encoder import encoders_in
from anomalib_zsad.models.parts.feature_cache import FeatureCache, check_images_repeat, datasets_of
from anomalib_zsad.models.parts.protocol import compare_batch_size
from anomalib_zsad.models.parts.record import Record
from anomalib_zsad.seam.given_optimizer import take_given_optimizer
from anomalib_zsad.seam.trainers import attach, trainer_of

logger = logging.getLogger(__name__)


class ZeroShotMixin(Detector):
    """Base of models that are trained on an auxiliary dataset and detect anomalies on others.

    A model is declared as `class AFClip(ZeroShotMixin, AnomalibModule)`: anomalib lists direct subclasses only. It
    brings `build`, which makes `model` (a torch module with an `encoder`, whose forward gives raw probabilities) of the
    hyper-parameters, `loss_terms`, `configure_optimizers` and, among its hyper-parameters, `image_size`, `epochs`,
    `seed` and `weights`; where its features can be cached, also `cache_features` and `cache_dtype`; where its prompts
    name classes, `class_names`.
    """

    paper_batch_size: ClassVar[int | None] = None
    """The paper's training batch size, if it is published."""

    soft_masks: ClassVar[type[SoftMask] | None] = None
    """How masks of training images are resized for the published targets; None: to the nearest pixel."""

    trains_on_anomalies = True

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses of a batch: "loss", which is minimised, and further ones to be logged."""
        raise NotImplementedError

    def training_masks(
        self,
        batch: Any,
    ) -> Tensor:  # (B, H, W)
        """Return the masks of a batch, resized by `soft_masks` where the dataset can: then shares of a pixel."""
        soft = getattr(batch, "soft_mask", None)
        return batch.gt_mask if soft is None else soft

    def take(self, record: Record) -> None:
        """Restore the training sets, too."""
        super().take(record)
        self.trained_on = list(record["trained_on"])

    @property
    def training_sets(self) -> list[str]:
        """The training sets of the trainer's datamodule, as "dataset/category"."""
        return list(getattr(self._module.trainer.datamodule, "training_sets", [])) or ["unknown"]

    @property
    def holds_nothing(self) -> bool:
        """Whether scores would be meaningless, since the model is untrained."""
        return not self.trained_on and self._learns

    @property
    def _learns(self) -> bool:
        """Whether any parameter is trainable: ablations may leave none."""
        return any(parameter.requires_grad for parameter in self._module.parameters())

    def check_exportable(self) -> None:
        """Refuse to export an untrained model."""
        if self.holds_nothing:
            raise ValueError(_untrained(self))

    # Interface of anomalib

    @property
    def trainer(self) -> Any:
        """The trainer; without `max_epochs` it trains for the `epochs` of the model."""
        return super().trainer  # type: ignore[misc]

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        attach(self._module, trainer, self._module.hparams.get("epochs"))

    def configure_callbacks(self) -> list[Callback]:
        """Check the training data and the optimiser of the command before the data are read, and order the components.

        Raises:
            ValueError: If the training data are known to be all normal, or the command has a scheduler without an
                optimiser.
        """
        trainer = trainer_of(self._module)
        if trainer is not None and self.trains_on_anomalies and trainer.state.fn == TrainerFn.FITTING:
            check_before_setup(trainer.datamodule, type(self))
            take_given_optimizer(self, trainer)
        return super().configure_callbacks()

    # Steps

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:  # noqa: ARG002
        """Compute and log the losses."""
        begin_step(self.model)
        terms = self.loss_terms(batch)
        self._losses = {name: kept(value.detach(), self.model) for name, value in terms.items()}
        found = {f"train_{name}": value for name, value in self._losses.items()}
        self._module.log_dict(found, prog_bar=True, sync_dist=True)
        return terms["loss"]

    # Hooks

    def setup(self, stage: str) -> None:
        """Seed a training.

        Raises:
            ValueError: If no parameter is trainable.
        """
        trainer = self._module.trainer
        if stage == TrainerFn.FITTING and not self._learns:
            msg = f"{type(self).__name__} has nothing to train with these options: run anomalib test without training"
            raise ValueError(msg)
        super().setup(stage)
        self._use_cache(None)  # left by an interrupted training
        if stage == TrainerFn.FITTING:
            images = getattr(trainer.datamodule, "train_data", None)
            if isinstance(images, CategoryDataset):
                images.soft_masks = self.soft_masks
            seed_everything(self._module.hparams["seed"], workers=True, verbose=False)
            # For random numbers of other code: those of this package depend on the seed, the epoch and the image alone.
            torch.manual_seed(self._module.hparams["seed"] + trainer.global_rank)

    def on_fit_start(self) -> None:
        """Record the checkpoint that training resumes from."""
        self._resumed_from = self._module.trainer.ckpt_path
        self._has_stepped = False

    def on_after_backward(self) -> None:
        """End a training whose loss is not finite before the weights change.

        A GPU has all of the step to compute by now; asked earlier, it would idle until the backward pass is launched.

        Raises:
            FloatingPointError: If it is not.
        """
        super().on_after_backward()  # type: ignore[misc]
        if not torch.isfinite(self._losses["loss"]):
            self._stop_at_lost_loss(self._losses)

    def on_before_zero_grad(self, _: Any) -> None:
        """Record the training sets at the first step with a finite loss, before a checkpoint can be written."""
        if not self._has_stepped:
            self._has_stepped = True
            self.trained_on = self.training_sets

    def on_fit_end(self) -> None:
        """Check that training took a step.

        Raises:
            ValueError: If it took none.
        """
        if not self._has_stepped:
            raise ValueError(_no_step(self._module.trainer))

    def on_train_start(self) -> None:
        """Compare the batch size with the paper's, and start the feature cache of `cache_features`.

        Raises:
            ValueError: If the training data have no anomalous image with a mask.
        """
        if self.trains_on_anomalies:
            check_trainable(self._module.trainer.train_dataloader, self._module.trainer.datamodule, type(self))
        super().on_train_start()  # type: ignore[misc]
        options, trainer = self._module.hparams, self._module.trainer
        if self.paper_batch_size and embedded_file(options["backbone"]) is None:  # no paper uses the small CLIP
            compare_batch_size(trainer, self.paper_batch_size)
        if options.get("cache_features") is not None:
            datasets = datasets_of(trainer.train_dataloader, trainer.val_dataloaders)
            check_images_repeat(datasets)
            images = sum(len(each) for each in datasets if isinstance(each, Sized))
            self._use_cache(
                FeatureCache.of(self.model.encoder, options["cache_features"], options["cache_dtype"], images)
            )

    def on_train_end(self) -> None:
        """End the feature cache: tests read images."""
        super().on_train_end()  # type: ignore[misc]
        self._use_cache(None)

    def on_test_start(self) -> None:
        """Warn where the model is untrained."""
        if self.holds_nothing:
            logger.warning("%s", _untrained(self))

    def on_predict_start(self) -> None:
        """Refuse to predict with an untrained model."""
        if self.holds_nothing:
            raise ValueError(_untrained(self))

    _resumed_from: Any = None
    _has_stepped = False

    def _use_cache(self, cache: FeatureCache | None) -> None:
        for encoder in encoders_in(self.model):
            encoder.feature_cache = cache

    def _is_test_after_resumed_fit(self) -> bool:
        trainer = trainer_of(self._module)
        testing = trainer is not None and trainer.state.fn == TrainerFn.TESTING
        return testing and self._resumed_from is not None and trainer.ckpt_path == self._resumed_from

    def _stop_at_lost_loss(self, terms: dict[str, Tensor]) -> None:
        trainer = self._module.trainer
        last = getattr(trainer.checkpoint_callback, "best_model_path", "") or "none was written yet"
        lost = ", ".join(f"{name} = {value.item():g}" for name, value in terms.items() if not torch.isfinite(value))
        msg = (
            f"Training stopped at step {trainer.global_step} of epoch {trainer.current_epoch}: expected finite losses, "
            f"got {lost}; the weights were not changed by this step, the last checkpoint: {last}. "
            f"A lower learning rate or fp32 precision helps most often."
        )
        raise FloatingPointError(msg)


def _no_step(trainer: Trainer) -> str:
    if not trainer.max_epochs or not trainer.max_steps:
        reason = f"epochs={trainer.max_epochs} and max_steps={trainer.max_steps} leave none: give at least 1"
    elif trainer.ckpt_path:
        reason = (
            f"the checkpoint {trainer.ckpt_path} has all of the {trainer.max_epochs} epochs already: give more "
            f"(--model.epochs) to train on, or leave the checkpoint out to train anew"
        )
    elif trainer.current_epoch:
        reason = f"this Engine has spent its {trainer.max_epochs} epochs on an earlier fit: make a new Engine for each"
    else:
        reason = "there are no batches: check the training data, limit_train_batches and max_time"
    return f"Expected a training of at least one step, got none: {reason}"


def _untrained(model: ZeroShotMixin) -> str:
    command = f"anomalib predict --model anomalib_zsad.{type(model).__name__}"
    weights = [f"--model.weights {name}" for name in list(model.published)[:1]]
    ways = " or ".join(f"`{command} {way} --data <images>`" for way in (*weights, "--ckpt_path <checkpoint>"))
    return (
        f"{type(model).__name__} holds no trained weights, so its scores mean nothing: train it first "
        f"(anomalib train), or use what was trained: {ways}"
    )
