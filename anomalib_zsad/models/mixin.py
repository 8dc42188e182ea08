"""What the four models have in common towards anomalib and Lightning."""

import logging
from collections.abc import Sized
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from anomalib import LearningType
from anomalib.data import Batch, InferenceBatch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, LightningModule, seed_everything
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.clip.embedded import default_size, embedded_file
from anomalib_zsad.data.adopting import adopt
from anomalib_zsad.data.trainable import check_before_setup, check_trainable
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.predictions import PredictionWriter
from anomalib_zsad.evaluation.visualizer import CategoryVisualizer
from anomalib_zsad.models import settings
from anomalib_zsad.models.checkpoint import (
    CheckedCheckpointIO,
    check_backbone,
    check_complete,
    check_method,
    check_readable,
)
from anomalib_zsad.models.export import ExportHooks
from anomalib_zsad.models.feature_cache import FeatureCache, check_images_repeat, datasets_of
from anomalib_zsad.models.given_optimizer import take_given_optimizer
from anomalib_zsad.models.pre_processor import ClipPreProcessor
from anomalib_zsad.models.protocol import compare_batch_size
from anomalib_zsad.models.termination import Termination
from anomalib_zsad.models.trained_weights import save_trained
from anomalib_zsad.models.validity import check_scores

logger = logging.getLogger(__name__)


class ZeroShotMixin(ExportHooks):
    """The plumbing of a model that is trained on an auxiliary dataset and detects anomalies elsewhere.

    A model is declared as `class AFClip(ZeroShotMixin, AnomalibModule)`: anomalib lists direct subclasses only. It
    brings `model` (a torch module with a `clip`, whose forward gives raw probabilities), `loss_terms`,
    `configure_optimizers` and, among its hyper-parameters, `image_size`, `epochs` and `seed`; where its torch
    module has a `cacheable` encode, also `cache_features` and `cache_dtype`. Nothing here keeps state but what a
    checkpoint or a file of weights says of itself: where it was trained.
    """

    model: nn.Module
    trained_on: list[str]
    """"dataset/category" of all training data; None stands for an unknown origin. Empty: not trained."""

    paper_batch_size: ClassVar[int | None] = None
    """Images in a training batch of the paper, where it is printed or released."""

    trains_on_anomalies = True
    """Whether the training data must have anomalous images with masks."""

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses of a batch: "loss", which is minimised, and whatever else is worth logging."""
        raise NotImplementedError

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, *options: Any, **more: Any) -> Any:
        """Load a checkpoint, as anomalib does; an unreadable one, or one of another model, gives a sentence.

        In anomalib's export, what its command says of the model counts as it does when it predicts.
        """
        check_method(check_readable(checkpoint_path), cls.__name__)
        given = settings.given_to_export(cls)
        more = more if given is None else {**settings.chosen(given), **more}
        return super().load_from_checkpoint(checkpoint_path, *options, **more)  # type: ignore[misc]

    def save_weights(self, path: str | Path) -> None:
        """Write what was learnt, with its thresholds, to a file for `weights=`: a few megabytes of safetensors."""
        save_trained(self, path)

    def predict_batch(self, batch: Batch) -> InferenceBatch:
        """Score the images of a batch; a model that uses more of it than the images says so here."""
        return self.model(batch.image)

    @property
    def holds_nothing(self) -> bool:
        """Whether scores would mean nothing, since nothing was trained."""
        return not self.trained_on and self._learns

    @property
    def _learns(self) -> bool:
        """Whether there is anything to train: ablations may switch it all off."""
        return any(parameter.requires_grad for parameter in self._module.parameters())

    def check_exportable(self) -> None:
        """Refuse to export untrained adapters."""
        if self.holds_nothing:
            raise ValueError(_untrained(self))

    # What anomalib asks for

    @property
    def learning_type(self) -> LearningType:
        """Make the engine train: it does not fit what calls itself zero-shot."""
        return LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """What the engine passes to the trainer, whatever the user gave it."""
        return {"num_sanity_val_steps": 0}

    @property
    def trainer(self) -> Any:
        """The trainer; `epochs` of the model are its number of epochs where it was given none."""
        return super().trainer  # type: ignore[misc]

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]
        if getattr(trainer, "max_epochs", 0) is None:
            trainer.fit_loop.max_epochs = self._module.hparams["epochs"]

    def configure_pre_processor(self) -> PreProcessor:
        """Resize to `image_size` (bicubic, antialias) and normalise as CLIP was trained."""
        given = self._module.hparams
        return ClipPreProcessor.of_size(given["image_size"] or default_size(given["backbone"]))

    def configure_post_processor(self) -> MonotonePostProcessor:
        """Bring the thresholds of the validation data to 0.5 and keep every rank."""
        return MonotonePostProcessor()

    @staticmethod
    def configure_evaluator() -> ZeroShotEvaluator:
        """Measure raw scores per category, and their mean."""
        return ZeroShotEvaluator()

    @classmethod
    def configure_visualizer(cls) -> CategoryVisualizer:
        """Draw anomalib's pictures, in a folder per category."""
        return CategoryVisualizer()

    def configure_callbacks(self) -> list[Callback]:
        """Order the components: what measures and records raw scores comes before what changes them.

        Raises:
            ValueError: If the training data are known to be all normal, which is told before they are looked for, or
                the command has a scheduler without an optimiser.
        """
        trainer = self._module.trainer
        if self.trains_on_anomalies and trainer.state.fn == TrainerFn.FITTING:
            check_before_setup(trainer.datamodule, type(self))
            take_given_optimizer(self, trainer)
        callbacks = list(super().configure_callbacks())  # type: ignore[misc]
        raw = [PredictionWriter(), *(each for each in callbacks if isinstance(each, ZeroShotEvaluator))]
        others = [each for each in callbacks if not isinstance(each, ZeroShotEvaluator)]
        first = [each for each in others if isinstance(each, PreProcessor)]
        return [*first, *raw, *(each for each in others if each not in first), Termination()]

    # Steps

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:  # noqa: ARG002
        """Compute and log the losses; a loss that is no number ends the training before it harms the weights."""
        terms = self.loss_terms(batch)
        if not torch.isfinite(terms["loss"]):
            self._stop_at_lost_loss(terms)
        found = {f"train_{name}": value.detach() for name, value in terms.items()}
        self._module.log_dict(found, prog_bar=True, sync_dist=True)
        return terms["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:  # noqa: ARG002
        """Score a batch, for the thresholds."""
        return self._scored(batch)

    def test_step(self, batch: Batch, batch_idx: int, *_: Any) -> STEP_OUTPUT:  # noqa: ARG002
        """Score a batch, for the evaluation."""
        return self._scored(batch)

    def predict_step(self, batch: Batch, batch_idx: int, *_: Any) -> STEP_OUTPUT:  # noqa: ARG002
        """Score a batch."""
        return self._scored(batch)

    def val_dataloader(self) -> list:
        """Offer no validation data, so that the engine can predict without a datamodule."""
        return []

    def _scored(self, batch: Batch) -> STEP_OUTPUT:
        return batch.update(**check_scores(self.predict_batch(batch), batch)._asdict())

    # Hooks

    def setup(self, stage: str) -> None:
        """Have checkpoints checked before they are read and images read by this package's rules; seed the training.

        Raises:
            ValueError: If there is nothing to train.
        """
        trainer = self._module.trainer
        if stage == TrainerFn.FITTING and not self._learns:
            msg = f"{type(self).__name__} has nothing to train with these options: run anomalib test without training"
            raise ValueError(msg)
        # anomalib numbers its folders of results in every process; all write to that of the first one.
        trainer._default_root_dir = trainer.strategy.broadcast(trainer._default_root_dir)
        trainer.strategy.checkpoint_io = CheckedCheckpointIO(self._module.checkpoint_safe_globals())
        adopt(trainer, self._module.pre_processor)
        self._use_cache(None)  # of a training that did not come to its end
        if stage == TrainerFn.FITTING:
            seed_everything(self._module.hparams["seed"], workers=True, verbose=False)
            # What is drawn in training differs between processes; the seed in the environment must not.
            torch.manual_seed(self._module.hparams["seed"] + trainer.global_rank)

    def on_fit_start(self) -> None:
        """Note what is trained on."""
        trainer = self._module.trainer
        self.trained_on = list(getattr(trainer.datamodule, "training_sets", [])) or ["unknown"]
        self._resumed_from = trainer.ckpt_path

    def on_train_start(self) -> None:
        """Say where batches are not the paper's; keep what the backbone computes, where `cache_features` is given.

        Raises:
            ValueError: If the training data have no anomalous image with a mask.
        """
        if self.trains_on_anomalies:
            check_trainable(self._module.trainer.train_dataloader, self._module.trainer.datamodule, type(self))
        super().on_train_start()  # type: ignore[misc]
        options, trainer = self._module.hparams, self._module.trainer
        if self.paper_batch_size and embedded_file(options["backbone"]) is None:  # the small CLIP is no paper's
            compare_batch_size(trainer, self.paper_batch_size)
        if options.get("cache_features") is not None:
            datasets = datasets_of(trainer.train_dataloader, trainer.val_dataloaders)
            check_images_repeat(datasets)
            images = sum(len(each) for each in datasets if isinstance(each, Sized))
            self._use_cache(FeatureCache.of(self.model, options["cache_features"], options["cache_dtype"], images))

    def on_train_end(self) -> None:
        """Compute what is tested from the images themselves."""
        super().on_train_end()  # type: ignore[misc]
        self._use_cache(None)

    def on_test_start(self) -> None:
        """Say so where the numbers are those of untrained adapters."""
        if self.holds_nothing:
            logger.warning("%s", _untrained(self))

    def on_predict_start(self) -> None:
        """Refuse to predict with untrained adapters."""
        if self.holds_nothing:
            raise ValueError(_untrained(self))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the backbone, whose weights are not in the checkpoint, and the training data.

        The last checkpoint holds no state of the optimiser, twice the size of what was trained: more epochs start with
        a fresh one. Those before it do, so that a training that was interrupted goes on as if it had not been.
        """
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        trainer = self._module.trainer
        if trainer.max_epochs and trainer.current_epoch + trainer.is_last_batch >= trainer.max_epochs > 0:
            checkpoint["optimizer_states"] = []
        checkpoint["anomalib_zsad"] = {
            "method": type(self).__name__,
            "backbone": self._clip.identity,
            "trained_on": self.trained_on,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint is one of this model, whole, and of this backbone; take over its settings."""
        check_method(checkpoint, type(self).__name__)
        if self._module._trainer is not None:
            settings.adopt(self, checkpoint.get("hyper_parameters", {}))
        check_complete(checkpoint, self._module)
        saved, ours = checkpoint["anomalib_zsad"]["backbone"], self._clip.identity
        check_backbone(saved, ours, "the checkpoint")
        if saved["image_size"] != ours["image_size"]:
            words = "Images are resized to %s px, as the checkpoint was trained; image_size %s is not used."
            logger.warning(words, saved["image_size"], ours["image_size"])
        if self._is_test_after_resumed_fit():
            # anomalib's `train` passes the checkpoint that it resumed from to the test as well.
            logger.info("Testing the weights just trained, not those of the checkpoint that training resumed from.")
            checkpoint["state_dict"] = self._module.state_dict()
        else:
            self.trained_on = list(checkpoint["anomalib_zsad"]["trained_on"])
            super().on_load_checkpoint(checkpoint)  # type: ignore[misc]

    _resumed_from: Any = None

    @property
    def _module(self) -> Any:  # this mixin is always mixed into an AnomalibModule
        return self

    @property
    def _clip(self) -> FrozenClip:
        return cast("FrozenClip", self.model.clip)

    def _use_cache(self, cache: FeatureCache | None) -> None:
        self.model.feature_cache = cache  # type: ignore[assignment]  # a plain attribute of a module

    def _is_test_after_resumed_fit(self) -> bool:
        trainer = self._module._trainer
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


def _untrained(model: ZeroShotMixin) -> str:
    return (
        f"{type(model).__name__} holds no trained weights, so its scores mean nothing: train it first "
        f"(anomalib train), or pass a checkpoint (--ckpt_path) or a file of weights (--model.weights)"
    )
