"""Building a model from its arguments and the record of a checkpoint or an adapter file, and writing that record."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.clip.blocks import Activation
from anomalib_zsad.clip.named import Look, default_size, look_of
from anomalib_zsad.clip.needs import Needs
from anomalib_zsad.clip.positions import PositionResize
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor, take_calibration, thresholds_of
from anomalib_zsad.models.parts import settings
from anomalib_zsad.models.parts.checkpoint import CheckedCheckpointIO, check_backbone, check_complete, check_readable
from anomalib_zsad.models.parts.compiling import compile_in_place
from anomalib_zsad.models.parts.encoder import run_towers
from anomalib_zsad.models.parts.pre_processor import ClipPreProcessor
from anomalib_zsad.models.parts.publication import Publication
from anomalib_zsad.models.parts.record import KEY, Record, from_checkpoint, new_record
from anomalib_zsad.models.parts.tiling import Tileable
from anomalib_zsad.models.parts.trained_weights import load_trained, save_trained
from anomalib_zsad.models.parts.weights_source import read_weights
from anomalib_zsad.seam.trainers import trainer_of

logger = logging.getLogger(__name__)

_FILES = {"weights", "pretrained"}
"""Arguments that name a file with weights."""
_SIZES = ("image_size", "tile")


class Persistence:
    """A model that is built of its hyper-parameters, and of the record of a checkpoint or an adapter file.

    It stands before `AnomalibModule` among the bases of a model, whose constructor calls that of anomalib and then
    `assemble`.
    """

    model: nn.Module
    trained_on: list[str]
    """"dataset/category" of all training data; None stands for an unknown origin. Empty: not trained."""
    thresholds_fitted_on: Sequence[str] = ()
    """The same of the data that the thresholds were fitted to."""

    published: ClassVar[Mapping[str, Publication]] = {}
    """The adapters that the authors of the method published, by the name for `weights`."""

    def build(self) -> None:
        """Make the torch model and the loss from the hyper-parameters."""
        raise NotImplementedError

    def load_clip(
        self,
        position_resize: PositionResize,
        activation: Activation = "quick_gelu",
        **needs: str,
    ) -> FrozenClip:
        """Load the frozen CLIP of the arguments, for images of `model_size`.

        Args:
            position_resize: As in `FrozenClip`.
            activation: As in `FrozenClip`.
            **needs: What the method needs of it, as in `Needs`.

        Raises:
            ValueError: If the backbone does not have what is needed, or cannot be read.
            OSError: If its weights can neither be found nor downloaded.
        """
        given, kind = self._module.hparams, type(self).__name__
        return FrozenClip.load(
            given["backbone"], given["pretrained"], self.model_size, activation, position_resize, Needs(kind, **needs)
        )

    def assemble(self, components: Mapping[str, Any]) -> None:
        """Build the model from its arguments; with `weights`, use the settings of that file and load it.

        Args:
            components: The arguments of the constructor for anomalib's components.

        Raises:
            RuntimeError: If it is built under `torch.inference_mode`.
        """
        module = self._module
        if torch.is_inference_mode_enabled():
            msg = (
                f"{type(self).__name__}: expected to be built outside of torch.inference_mode, where tensors can be "
                f"neither trained nor loaded later, got it inside: build it before, and run it inside"
            )
            raise RuntimeError(msg)
        module.save_hyperparameters(settings.nested(settings.flat(module.hparams)))  # plain data, also the choices
        self.trained_on = []
        file = module.hparams.get("weights")
        weights = None if file is None else read_weights(file, type(self).__name__, self.published)
        if weights is not None:
            self._use_settings(weights.record, f"the weights {file}")
        if components.get("pre_processor", True) is True:
            module.pre_processor = module.configure_pre_processor(self.model_size)
            self._resize_images()
        self._rebuild()
        if weights is not None:
            load_trained(self, weights, origin=str(file))

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: Any = None,
        weights_only: Any = True,
        **given: Any,
    ) -> Any:
        """Build a model from the record of a checkpoint and from given arguments, which override the record.

        Args:
            checkpoint_path: The file.
            map_location: The device to load to. None: the one it was saved from, if this machine has it.
            hparams_file: Part of anomalib's signature; not used.
            strict: Part of anomalib's signature; not used, all tensors must match.
            weights_only: Part of anomalib's signature; not used, pickled code is never run.
            **given: Arguments of the class.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be read, is of another model or over another backbone, or names a file with the
                weights of the backbone while `pretrained` is not given.
        """
        del hparams_file, strict, weights_only
        content, what = check_readable(checkpoint_path), f"checkpoint {checkpoint_path}"
        record = from_checkpoint(content, cls.__name__)
        settings.warn_of_others(cls, given, record, what)
        runs = settings.of_runs(cls, content.get("hyper_parameters", {}))
        runs.update(dict.fromkeys(_FILES & runs.keys()))  # they are read only if they are named
        module: Any = cls(**settings.nested({**runs, **settings.joined(cls, given, record, what)}))
        checkpoint = CheckedCheckpointIO(module.checkpoint_safe_globals()).load_checkpoint(
            checkpoint_path, map_location=map_location or (None if torch.accelerator.is_available() else "cpu")
        )
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
        device = next((tensor.device for tensor in checkpoint["state_dict"].values()), module.device)
        return module.to(device)

    def load_checkpoint(self, path: str | Path) -> None:
        """Load a checkpoint into this model, as testing and predicting do: its settings replace defaults."""
        module = self._module
        checkpoint = CheckedCheckpointIO(module.checkpoint_safe_globals()).load_checkpoint(path)
        self._adopt(from_checkpoint(checkpoint, type(self).__name__))
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])

    def check_loaded(self, checkpoint: dict[str, Any], record: Record) -> None:
        """Check that a checkpoint is complete and belongs to this backbone.

        Raises:
            ValueError: If it is not.
        """
        check_complete(checkpoint, self._module)
        check_backbone(record["backbone"], self._clip.identity, "the checkpoint")

    def resize_images(self, record: Record) -> None:
        """Set the size of a checkpoint's default pre-processor to the image size of this model."""
        ours, theirs = (
            {name: each.get(name) for name in _SIZES} for each in (self._module.hparams, record["settings"])
        )
        is_tiled = ours["tile"] is not None or theirs["tile"] is not None
        saved = (record["backbone"] or {}).get("image_size")
        if saved != self._clip.identity["image_size"] or (is_tiled and settings.differing(ours, theirs)):
            self._resize_images()

    def save_weights(self, path: str | Path) -> None:
        """Write trained tensors and the record to a file for `weights=`: a few megabytes of safetensors."""
        save_trained(self, path)

    def record(self) -> Record:
        """Return the record for checkpoints and adapter files."""
        return new_record(
            type(self).__name__,
            settings=settings.settings_of(self),
            backbone=self._clip.identity,
            trained_on=self.trained_on,
            thresholds={**thresholds_of(self._module.post_processor), "fitted_on": list(self.thresholds_fitted_on)},
        )

    def take(self, record: Record) -> None:
        """Restore the entries of a record other than settings, after the weights are loaded."""
        self.thresholds_fitted_on = list(record["thresholds"].get("fitted_on", []))
        take_calibration(self._module.post_processor, record["thresholds"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the record.

        The last checkpoint holds no state of the optimiser, which is twice the size of the trained tensors: further
        epochs start with a new one. Earlier checkpoints do, so that an interrupted training resumes exactly.
        """
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        trainer = trainer_of(self._module)  # a member of an ensemble may have none
        if (
            trainer is not None
            and trainer.max_epochs
            and trainer.current_epoch + trainer.is_last_batch >= trainer.max_epochs > 0
        ):
            checkpoint["optimizer_states"] = []
        checkpoint[KEY] = self.record()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint is complete and belongs to this model and backbone; restore its record."""
        if self._is_test_after_resumed_fit():
            # anomalib's `train` passes the checkpoint that it resumed from to the test as well.
            logger.info("Testing the weights just trained, not those of the checkpoint that training resumed from.")
            checkpoint["state_dict"] = self._module.state_dict()
            checkpoint["callbacks"] = {}  # among them the thresholds
            return
        record = from_checkpoint(checkpoint, type(self).__name__)
        if trainer_of(self._module) is not None:
            self._adopt(record)
        self.check_loaded(checkpoint, record)
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        self.resize_images(record)
        self.take(record)
        if isinstance(self._module.evaluator, ZeroShotEvaluator):
            self._module.evaluator.forget()

    @property
    def _module(self) -> Any:  # this mixin is always mixed into an AnomalibModule
        return self

    @property
    def _clip(self) -> FrozenClip:
        return cast("Any", self.model).encoder.clip

    @property
    def model_size(self) -> int | tuple[int, int]:
        """Height and width in pixels of the torch model's input: a tile, or the whole image."""
        given = self._module.hparams
        return self._tile or given["image_size"] or default_size(given["backbone"])

    @property
    def _look(self) -> Look:
        return look_of(self._module.hparams["backbone"], self._module.hparams["pretrained"])

    @property
    def _tile(self) -> int | tuple[int, int] | None:
        return self._module.hparams.get("tile")

    def _resize_images(self) -> None:
        """Let the default pre-processor resize by the arguments; images to be tiled may keep their size."""
        if isinstance(pre_processor := self._module.pre_processor, ClipPreProcessor):
            pre_processor.look = self._look
            pre_processor.resize_to(self.model_size if self._tile is None else self._module.hparams["image_size"])

    def _is_test_after_resumed_fit(self) -> bool:
        """Whether anomalib's `train` passes the checkpoint that it resumed from to the test as well."""
        return False

    def _adopt(self, record: Record) -> None:
        """Rebuild the model if settings of a checkpoint replace its defaults."""
        if self._use_settings(record, "the checkpoint"):
            self._rebuild()

    def _rebuild(self) -> None:
        module = self._module
        held = getattr(module, "model", None)
        self.build()
        run_towers(module.model, module.hparams.get("runtime", "torch"))
        module.model.to(module.device)
        if mode := module.hparams.get("compile"):
            compile_in_place(module, "default" if mode is True else mode)
        if isinstance(module.model, Tileable) and "tile" in module.hparams:
            module.model.tile_as(module.hparams, getattr(held, "tiler", None))
        if isinstance(module.pre_processor, ClipPreProcessor):
            module.pre_processor.look = self._look
            module.pre_processor.train_at(self._tile)
        thresholds = {level: module.hparams[f"{level}_threshold"] for level in ("image", "pixel")}
        if isinstance(module.post_processor, MonotonePostProcessor):
            module.post_processor.fix_thresholds(**thresholds)
        elif module.post_processor is not None and any(value is not None for value in thresholds.values()):
            kind = type(module.post_processor).__name__
            msg = f"image_threshold and pixel_threshold need the post-processor MonotonePostProcessor, got {kind}"
            raise ValueError(msg)

    def _use_settings(self, record: Record, what: str) -> bool:
        """Use the settings of a record for those at their defaults.

        Returns:
            Whether any changed.
        """
        module = self._module
        taken = settings.take(type(self), module.hparams, record, what)
        settings.warn_of_others(type(self), settings.chosen(type(self), module.hparams), record, what)
        if taken:
            module.save_hyperparameters(settings.nested({**settings.flat(module.hparams), **taken}))
        return bool(taken)
