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

from anomalib_zsad.evaluation.f1_threshold import BinnedF1Threshold

logger = logging.getLogger(__name__)

_MARGIN = 1e-6
"""How near a threshold may come to 0 and 1, so that the scores beyond it still have a side of the map."""
_UNIT_RANGE = {"image_min": 0, "image_max": 1, "pixel_min": 0, "pixel_max": 1}
"""What anomalib's own post-processor normalises by: with these it decides as the one below."""
_LEVELS = {"image": "_image_threshold", "pixel": "_pixel_threshold"}


def thresholds_of(
    post_processor: Any,  # a PostProcessor, or anything else
) -> dict[str, Any]:
    """Say in plain data what decides: both raw thresholds, None where there is none, and the options."""
    if not isinstance(post_processor, PostProcessor):
        return {}
    values = {level: getattr(post_processor, name).item() for level, name in _LEVELS.items()}
    known = {level: None if math.isnan(value) else value for level, value in values.items()}
    return {**known, "options": post_processor.checkpoint_config()}


def take_thresholds(
    post_processor: Any,  # a PostProcessor, or anything else
    thresholds: Mapping[str, Any],
) -> None:
    """Put into a post-processor what `thresholds_of` says of another."""
    if not isinstance(post_processor, PostProcessor):
        return
    values = {**_UNIT_RANGE, **{name: thresholds.get(level) for level, name in _LEVELS.items()}}
    state = {name: torch.tensor(float(value)) for name, value in values.items() if value is not None}
    post_processor.load_state_dict({**post_processor.state_dict(), **state})
    post_processor.load_checkpoint_config(thresholds.get("options", {}))


class MonotonePostProcessor(PostProcessor):
    """Anomalib's post-processor for probabilities: 0 stays 0, the threshold becomes 0.5, 1 stays 1, linear between.

    Nothing is clamped and no minimum or maximum of other data enters, so that the order of scores stays. Without a
    threshold, scores are left as they are. In 32 bits, scores closer than 3e-7 may become equal.

    An option that is not at its default counts instead of that of a checkpoint.

    Args:
        **options: Those of anomalib's post-processor.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The metric of the base class keeps every pixel of the validation data.
        self._pixel_threshold_metric = BinnedF1Threshold(  # type: ignore[assignment]
            fields=["anomaly_map", "gt_mask"],
            strict=False,
        )
        defaults = {each.name: each.default for each in signature(PostProcessor.__init__).parameters.values()}
        self._chosen = {name: value for name, value in self.checkpoint_config().items() if value != defaults[name]}
        self._fixed: dict[str, float] = {}
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
        self._fixed = {_LEVELS[level]: value for level, value in given.items() if value is not None}
        self._put(self._fixed)

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore the options of a checkpoint, but for those that were chosen otherwise."""
        others = [name for name, value in self._chosen.items() if config.get(name, value) != value]
        if others:
            told = ", ".join(f"{name}={self._chosen[name]} (not {config[name]})" for name in others)
            logger.info("Post-processing otherwise than the checkpoint says: %s.", told)
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
        """Take the scores for the thresholds."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        if self.enable_thresholding:
            self._image_threshold_metric.update(outputs)
            self._pixel_threshold_metric.update(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit the thresholds."""
        super().on_validation_epoch_end(trainer, pl_module)
        # anomalib takes the lowest score that counts as anomalous and then asks for more than it.
        self._image_threshold.copy_(torch.nextafter(self._image_threshold, torch.zeros_like(self._image_threshold)))
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

    def _put(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            getattr(self, name).fill_(value)

    @staticmethod
    def _normalize(
        preds: Tensor | None,  # any shape
        norm_min: Tensor,
        norm_max: Tensor,
        threshold: Tensor,  # ()
    ) -> Tensor | None:
        del norm_min, norm_max
        if preds is None:
            return None
        # Products before quotients: at the threshold both sides are 0.5 to the last bit, so no rank is turned there.
        threshold = _usable(threshold)
        lower = 0.5 * preds / threshold
        upper = 1 - 0.5 * (1 - preds) / (1 - threshold)
        return torch.where(preds <= threshold, lower, upper)


def _keep_fixed(post_processor: MonotonePostProcessor, _: Any) -> None:
    post_processor._put({**_UNIT_RANGE, **post_processor._fixed})


def _usable(threshold: Tensor) -> Tensor:  # ()
    return torch.where(torch.isnan(threshold), 0.5, threshold).clamp(_MARGIN, 1 - _MARGIN)
