"""From raw probabilities to decisions, without changing any rank."""

import logging
import math
from collections.abc import Mapping
from inspect import signature
from typing import Any, Literal

import torch
from anomalib.data import Batch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.f1_threshold import BinnedF1Threshold
from anomalib_zsad.seam.open_post_processor import THRESHOLDS, OpenPostProcessor, raw_thresholds

logger = logging.getLogger(__name__)

_LEAST = torch.finfo(torch.float32).tiny
"""What divides a score of 0 where the threshold is 0."""
_UNIT_RANGE = {"image_min": 0, "image_max": 1, "pixel_min": 0, "pixel_max": 1}
"""What anomalib's own post-processor normalises by: with these it decides as the one below."""


def thresholds_of(
    post_processor: Any,  # a PostProcessor, or anything else
) -> dict[str, Any]:
    """Return the raw thresholds (None: unknown), the calibration if there is one, and the options as plain data."""
    if not isinstance(post_processor, PostProcessor):
        return {}
    values = {level: threshold.item() for level, threshold in raw_thresholds(post_processor).items()}
    known = {level: None if math.isnan(value) else value for level, value in values.items()}
    calibration = getattr(post_processor, "calibration", None)
    entry = {} if calibration is None else {"calibration": calibration.to_record()}
    return {**known, "options": post_processor.checkpoint_config(), **entry}


def take_thresholds(
    post_processor: Any,  # a PostProcessor, or anything else
    thresholds: Mapping[str, Any],
) -> None:
    """Set the thresholds and options that `thresholds_of` returned."""
    if not isinstance(post_processor, PostProcessor):
        return
    values = {**_UNIT_RANGE, **{name: thresholds.get(level) for level, name in THRESHOLDS.items()}}
    state = {name: torch.tensor(float(value)) for name, value in values.items() if value is not None}
    post_processor.load_state_dict({**post_processor.state_dict(), **state})
    post_processor.load_checkpoint_config(thresholds.get("options", {}))
    take_calibration(post_processor, thresholds)


def take_calibration(
    post_processor: Any,  # a PostProcessor, or anything else
    thresholds: Mapping[str, Any],
) -> None:
    """Put the calibration that `thresholds_of` describes, or none, into a post-processor that has its thresholds.

    Raises:
        ValueError: If it is damaged.
    """
    if isinstance(post_processor, MonotonePostProcessor):
        post_processor.calibration = Calibration.of_record(thresholds.get("calibration"))


class MonotonePostProcessor(OpenPostProcessor):
    """Anomalib's post-processor for probabilities: 0 stays 0, the threshold becomes 0.5, 1 stays 1, linear between.

    Nothing is clamped and no minimum or maximum of other data enters, so that the order of scores stays. Without a
    threshold, scores are left as they are. In 32 bits, scores closer than 3e-7 may become equal.

    An option that differs from its default overrides that of a checkpoint.

    Once calibrated (`calibrate`), batches get a `p_value` (B,) beside their scores: see `Calibration`.

    Args:
        **options: Those of anomalib's post-processor.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(BinnedF1Threshold(fields=["anomaly_map", "gt_mask"], strict=False), **options)
        defaults = {each.name: each.default for each in signature(PostProcessor.__init__).parameters.values()}
        self._chosen = {name: value for name, value in self.checkpoint_config().items() if value != defaults[name]}
        self._fixed: dict[str, float] = {}
        self.calibration: Calibration | None = None
        self._put(_UNIT_RANGE)
        self.register_load_state_dict_post_hook(_keep_fixed)

    def fix_thresholds(self, image: float | None = None, pixel: float | None = None) -> None:
        """Set raw thresholds that neither validation data nor a checkpoint changes.

        Args:
            image: That of image scores, in [0, 1]; None: as fitted or loaded.
            pixel: That of maps.

        Raises:
            ValueError: If one is not in [0, 1].
        """
        given = {"image": image, "pixel": pixel}
        for level, value in given.items():
            if value is not None and not 0 <= value <= 1:
                msg = f"{level}_threshold must be a raw score between 0 and 1, got {value}"
                raise ValueError(msg)
        self._fixed = {THRESHOLDS[level]: value for level, value in given.items() if value is not None}
        self._put(self._fixed)

    def calibrate(self, calibration: Calibration) -> None:
        """Decide by the thresholds of a calibration; one that was fixed (`fix_thresholds`) stays."""
        self.calibration = calibration
        thresholds = {"image": calibration.image_threshold, "pixel": calibration.pixel_threshold}
        self._put({THRESHOLDS[level]: threshold for level, threshold in thresholds.items()})
        self._put(self._fixed)

    def post_process_batch(self, batch: Batch) -> None:
        """Normalise the scores of a batch and decide, after its p-values were computed."""
        self.add_p_values(batch)
        super().post_process_batch(batch)

    def add_p_values(self, batch: Batch) -> None:
        """Compute the `p_value` (B,) of a batch of raw scores, once, where the model is calibrated."""
        if self.calibration is not None and batch.pred_score is not None and not hasattr(batch, "p_value"):
            batch.p_value = self.calibration.p_values(batch.pred_score)  # type: ignore[attr-defined]  # beside its fields

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the calibration: scores change with the weights."""
        del trainer, pl_module
        if self.calibration is not None:
            logger.warning("Training ends the calibration (%s): calibrate again afterwards.", self.calibration)
            self.calibration = None

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore the options of a checkpoint, except those that the user has set."""
        others = [name for name, value in self._chosen.items() if config.get(name, value) != value]
        if others:
            overridden = ", ".join(f"{name}={self._chosen[name]} (not {config[name]})" for name in others)
            logger.info("Post-processing options that override the checkpoint: %s.", overridden)
        super().load_checkpoint_config({**config, **self._chosen})

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the scores for the thresholds."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        if self.enable_thresholding:
            self.update_thresholds(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit the thresholds; they replace those of a calibration."""
        self.calibration = None
        super().on_validation_epoch_end(trainer, pl_module)
        # anomalib's threshold is the lowest score of an anomalous image, and only scores above it are anomalous.
        threshold = raw_thresholds(self)["image"]
        threshold.copy_(torch.nextafter(threshold, torch.zeros_like(threshold)))
        self._put(self._fixed)

    def raw_threshold(self, level: Literal["image", "pixel"]) -> Tensor:  # ()
        """Return the raw score above which the decision is "anomalous", whatever the sensitivity.

        Args:
            level: Whose decision.
        """
        threshold, flips_at = {
            "image": (self.image_threshold, self.normalized_image_threshold),
            "pixel": (self.pixel_threshold, self.normalized_pixel_threshold),
        }[level]
        flips_at = flips_at.to(threshold)
        if not self.enable_normalization:
            return flips_at
        threshold = _usable(threshold)
        upper = 1 - (1 - flips_at) * (1 - threshold) * 2
        return torch.where(flips_at <= 0.5, flips_at * threshold * 2, upper)

    def rescale(
        self,
        scores: Tensor,  # any shape
        threshold: Tensor,  # ()
    ) -> Tensor:  # the same
        """Bring the threshold to 0.5, linear on both sides of it."""
        # Products before quotients: at the threshold both sides are 0.5 to the last bit, so no rank is turned there.
        threshold = _usable(threshold)
        lower = 0.5 * scores / threshold.clamp(min=_LEAST)
        # No score exceeds a threshold of 1, where this would be 0 / 0.
        upper = 1 - 0.5 * (1 - scores) / (1 - threshold)
        return torch.where(scores <= threshold, lower, upper)

    def _put(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            getattr(self, name).fill_(value)


def _keep_fixed(post_processor: MonotonePostProcessor, _: Any) -> None:
    post_processor._put({**_UNIT_RANGE, **post_processor._fixed})


def _usable(threshold: Tensor) -> Tensor:  # ()
    return torch.where(torch.isnan(threshold), 0.5, threshold).clamp(0, 1)
