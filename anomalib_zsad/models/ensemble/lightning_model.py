"""Ensembles: building, fitting the scale, saving and loading."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from anomalib.data import Batch, InferenceBatch
from anomalib.models import AnomalibModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from anomalib_zsad import arguments as arg
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor, thresholds_of
from anomalib_zsad.models.ensemble.members import as_member, describe, is_untrained
from anomalib_zsad.models.ensemble.raw_images import RawImages
from anomalib_zsad.models.ensemble.torch_model import EnsembleModel
from anomalib_zsad.models.parts.detector import Detector
from anomalib_zsad.models.parts.record import Record, new_record
from anomalib_zsad.models.parts.runtime import Runtime
from anomalib_zsad.models.parts.settings import settings_of
from anomalib_zsad.seam.trainers import trainer_of


class Ensemble(Detector, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """Several trained detectors as one: models of this package and of anomalib, or several seeds of one.

    Each member pre-processes the raw image as it was trained to. Its image scores and the pixels of its map, resized
    to one size, are standardised by their mean and standard deviation on the validation data, brought into [0, 1], so
    that the order of scores follows each member's, and averaged by the weights. `Engine.train` trains nothing: it takes
    these statistics from the validation images, then fits the thresholds to the averaged scores, as with any model.

    Mean and deviation, not anomalib's minimum and maximum, since a single odd image decides those, they differ with the
    number of images, and what lies beyond would have to be clamped to one value. They need no labels either. What
    users know of anomalib's scores stays: 0.5 is the threshold of best F1 on the validation data after the
    post-processor, as `MonotonePostProcessor` puts it.

    Args:
        models: Trained models; or checkpoints, where they are of this package. In a configuration a model of anomalib
            is given with the class_path of its class with `.load_from_checkpoint` behind it and the checkpoint_path.
            None: what the checkpoint of an ensemble holds.
        weights: How much each member counts: a number of at least 0 each. None: all the same.
        image_size: Height and width of the maps in pixels. None: the largest input of the members.
        image_threshold: The raw image score above which an image is anomalous. None: as fitted to validation data.
        pixel_threshold: The same of the pixels of a map.
        pretrained: The file with the weights of CLIP for members whose checkpoint names one; it is read only if it is
            named here. Members over several such files are given as models.
        runtime: What computes the vision towers of the members of this package: "openvino" or "onnx" (onnxruntime), on
            a CPU in float32. "torch": as each member was given it.
        post_processor: Ours with other options, anomalib's, or False for none.
        **components: anomalib's pre_processor, evaluator and visualizer.

    Raises:
        FileNotFoundError: If a checkpoint does not exist.
        ValueError: If there is no member, a member cannot be built, or weights do not fit the members.

    Example:
        >>> from anomalib.engine import Engine
        >>> from anomalib_zsad import AFClip, Ensemble, KAnoClip, MVTec, VisA
        >>> ensemble = Ensemble(["af_clip.ckpt", "kano_clip.ckpt"], weights=[2, 1])  # doctest: +SKIP
        >>> Engine().train(ensemble, datamodule=VisA(target=MVTec()))  # doctest: +SKIP
    """

    model: EnsembleModel

    @arg.checked
    def __init__(
        self,
        models: Sequence[AnomalibModule | str | Path | dict[str, Any]] | None = None,
        weights: Sequence[arg.Weight] | None = None,
        image_size: arg.ImageSize | None = None,
        image_threshold: arg.Share | None = None,
        pixel_threshold: arg.Share | None = None,
        pretrained: arg.OfRun[str | Path | None] = None,
        runtime: arg.OfMachine[Runtime] = "torch",
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        members = None if models is None else [as_member(each, pretrained) for each in models]
        # The base class reads the hyper-parameters from these very names: plain data, no live models.
        models = None if members is None else [describe(each) for each in members]
        super().__init__(post_processor=post_processor, **components)
        self.model = EnsembleModel(members or [], [], (0, 0))
        self._rebuild()

    def build(self) -> None:
        """Weigh the members, and set the size of their maps; build them where a checkpoint names them."""
        given: Any = self.hparams
        if given.models is None:
            return
        members = self._members() or [as_member(each, given.pretrained) for each in given.models]
        weights, size = _check_weights(given.weights, len(members)), _map_size(given.image_size, members)
        self.model = EnsembleModel(members, weights, size)
        self._resize()
        if trainer_of(self) is not None:
            self._attach_members()

    @property
    def trained_on(self) -> list[str]:  # type: ignore[override]
        """What the members of this package were trained on."""
        known = (getattr(member, "trained_on", []) for member in self.model.members)
        return sorted({name for names in known for name in names})

    @property
    def holds_nothing(self) -> bool:
        """Whether scores would mean nothing, since the scale is not known."""
        return not self.model.is_fitted

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One pass over the validation data; Lightning requires a training batch before it."""
        return {**super().trainer_arguments, "max_epochs": 1, "limit_train_batches": 1, "devices": 1}

    @classmethod
    def configure_pre_processor(cls, image_size: int | tuple[int, int] | None = None) -> RawImages:
        """Leave images to the members, and bring masks to a height and width in pixels."""
        return RawImages(_pair(image_size))

    def configure_optimizers(self) -> None:
        """Nothing is trained."""

    def predict_batch(self, batch: Batch) -> InferenceBatch:
        """Score the images of a batch."""
        return self.model.combine(self.model.raw_scores(batch))

    def check_exportable(self) -> None:
        """Refuse to export what would not score."""
        self._check_ready()
        for member in self._members():
            if isinstance(member, Detector):
                member.check_exportable()

    def block_weights(self) -> list[Tensor]:
        """The matrices of the members' frozen backbones."""
        own = (each for each in self._members() if isinstance(each, Detector))
        return [weight for member in own for weight in member.block_weights()]

    def save_weights(self, path: str | Path) -> None:
        """Refuse: an adapter file is of one method."""
        msg = f"{path}: expected a model with weights of its own, got an ensemble: its checkpoint holds all of it"
        raise ValueError(msg)

    # Steps and hooks

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:
        """Return a loss without consequence, as anomalib's models do that train nothing."""
        return torch.zeros((), device=self.device, requires_grad=True)

    def setup(self, stage: str) -> None:
        """Check checkpoints before they are read, and give the members access to the data."""
        super().setup(stage)
        self._attach_members()  # they read images one by one, which the ensemble's own pre-processor does not

    @torch.no_grad()
    def on_validation_start(self) -> None:
        """Take the scale from all validation images, so that those which follow are scored on it."""
        self._check_trained()
        sums = [self.model.sums(self.model.raw_scores(batch)) for batch in self._validation_batches()]
        self.model.fit(torch.stack(sums).sum(0))

    def on_test_start(self) -> None:
        """Refuse to test without a scale."""
        self._check_ready()

    def on_predict_start(self) -> None:
        """Refuse to predict without a scale; read image files as in training."""
        self._check_ready()

    def record(self) -> Record:
        """Return the weights of the members, and of each what its own checkpoint holds."""
        own = {"weights": self.model.weights, "image_size": list(self.model.map_size)}
        return new_record(
            type(self).__name__,
            settings={**settings_of(self), **own},
            trained_on=self.trained_on,
            thresholds={**thresholds_of(self.post_processor), "fitted_on": list(self.thresholds_fitted_on)},
            members=[_checkpoint_of(member) for member in self._members()],
        )

    def check_loaded(self, checkpoint: dict[str, Any], record: Record) -> None:
        """Load the record of each member, and check its weights."""
        for index, (member, own) in enumerate(zip(self._members(), record["members"], strict=True)):
            start = f"model.members.{index}."
            state = {k.removeprefix(start): v for k, v in checkpoint["state_dict"].items() if k.startswith(start)}
            member.on_load_checkpoint({**own, "state_dict": state})

    def resize_images(self, record: Record) -> None:
        """Bring masks to the size of the maps."""
        self._resize()

    def _adopt(self, record: Record) -> None:
        settings = dict(record["settings"])
        if self._members():
            ours, theirs = (
                [each["model"] for each in models] for models in (self.hparams["models"], settings["models"])
            )
            if ours != theirs:
                msg = f"expected a checkpoint of an ensemble of {', '.join(ours)}, got one of {', '.join(theirs)}"
                raise ValueError(msg)
            settings["models"] = self.hparams["models"]  # each takes over its own settings
        super()._adopt({**record, "settings": settings})

    def _resize(self) -> None:
        if isinstance(self.pre_processor, RawImages):
            self.pre_processor.load_checkpoint_config({"map_size": self.model.map_size})

    def _attach_members(self) -> None:
        state = self.trainer.state.fn
        for member in self._members():
            member.trainer = self.trainer
            # What a member does before a training of its own, such as varying the images, is not for this one.
            member.setup(TrainerFn.VALIDATING if state == TrainerFn.FITTING else state)

    def _members(self) -> list[Any]:  # of AnomalibModule
        return list(self.model.members)

    def _validation_batches(self) -> Iterator[Any]:
        loaders, limits = self.trainer.val_dataloaders, self.trainer.num_val_batches
        for loader, limit in zip(loaders if isinstance(loaders, list) else [loaders], limits, strict=True):
            for batch in islice(loader, None if math.isinf(limit) else int(limit)):
                yield self.trainer.strategy.batch_to_device(batch, self.device)

    def _check_trained(self) -> None:
        if not self._members():
            msg = "Ensemble has no members: expected models (--model.models), or a checkpoint of one (--ckpt_path)"
            raise ValueError(msg)
        for number, member in enumerate(self._members(), start=1):
            if is_untrained(member):
                msg = f"member {number} of the ensemble, {type(member).__name__}, is untrained: train it first"
                raise ValueError(msg)

    def _check_ready(self) -> None:
        self._check_trained()
        if self.holds_nothing:
            msg = (
                "Ensemble does not know the scale of its members' scores: take it from the validation images of a "
                "datamodule (anomalib train, which trains nothing here), or pass a checkpoint of it (--ckpt_path)"
            )
            raise ValueError(msg)


def _checkpoint_of(member: Any) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {}
    member.on_save_checkpoint(checkpoint)
    return {key: value for key, value in checkpoint.items() if key not in {"hyper_parameters", "optimizer_states"}}


def _check_weights(weights: Sequence[float] | None, members: int) -> list[float]:
    if not members:
        msg = "models must name at least one member, got none"
        raise ValueError(msg)
    found = [1.0] * members if weights is None else [float(each) for each in weights]
    if len(found) != members or not any(found):
        msg = f"weights must be {members} numbers of at least 0, one for each member and not all 0, got {found}"
        raise ValueError(msg)
    return found


def _map_size(image_size: int | tuple[int, int] | None, members: Sequence[AnomalibModule]) -> tuple[int, int]:
    if image_size is not None:
        height, width = _pair(image_size)  # type: ignore[misc]
        return height, width
    sizes = [size for member in members if (size := member.input_size) is not None]
    if not sizes:
        msg = "image_size must be given, since no member's pre-processor tells how large its maps are, got None"
        raise ValueError(msg)
    return max(size[0] for size in sizes), max(size[1] for size in sizes)


def _pair(image_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if image_size is None or isinstance(image_size, int):
        return None if image_size is None else (image_size, image_size)
    return image_size[0], image_size[1]
