"""Few-shot detection on top of a zero-shot model: the choice of references, and when the memory is filled."""

import logging
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from torch import Tensor

from anomalib_zsad.clip.digest import hash_file
from anomalib_zsad.data.item import ANY_CATEGORY, categories_of
from anomalib_zsad.models.af_clip.references import draw, files_of, normal_images_of, read_references
from anomalib_zsad.models.parts.record import Record
from anomalib_zsad.models.parts.tiling import plain_sizes
from anomalib_zsad.printing import printable
from anomalib_zsad.seam.open_post_processor import raw_thresholds
from anomalib_zsad.seam.trainers import datamodule_of

logger = logging.getLogger(__name__)


class FewShotMixin:
    """Adds a memory of k normal reference images of the tested category.

    It precedes `ZeroShotMixin` among the bases. The torch model provides `memory` (a `MemoryBank`), `alpha` and
    `remember(images, coreset_ratio)`; the hyper-parameters `k_shot`, `reference`, `alpha`, `coreset_ratio` and `seed`.
    Memories follow the category of the samples and the stage: one that was filled for another is never used.
    """

    memory_of: dict[str, Any] | None = None
    """The content of the memory: category, references and their choice. None: empty."""

    threshold_shots: int = 0
    """The number of references with which the thresholds were fitted."""

    @property
    def is_few_shot(self) -> bool:
        """Whether scores use references."""
        return bool(self._options["k_shot"]) or self._options["reference"] is not None or self.memory_of is not None

    @property
    def reference_digests(self) -> list[str]:
        """SHA-256 of the references' files; an empty memory is filled first."""
        if self.is_few_shot and self.memory_of is None:
            self._recollect(ANY_CATEGORY)
        return list(self.memory_of.get("digests", [])) if self.memory_of else []

    @property
    def learning_type(self) -> LearningType:
        """FEW_SHOT with references, which the engine does not train."""
        return LearningType.FEW_SHOT if self.is_few_shot else super().learning_type  # type: ignore[misc]

    @property
    def holds_nothing(self) -> bool:
        """Whether scores would be meaningless: neither trained nor with references."""
        return not self.is_few_shot and super().holds_nothing  # type: ignore[misc]

    def check_exportable(self) -> None:
        """Fill an empty memory, since an exported model cannot.

        Raises:
            ValueError: If there are no references, or others than the arguments name.
        """
        super().check_exportable()  # type: ignore[misc]
        is_of_now = self.memory_of is not None and self._datamodule is not None and self._options["reference"] is None
        if self.is_few_shot and not is_of_now:
            self._recollect(ANY_CATEGORY)

    def predict_batch(self, batch: Any) -> InferenceBatch:
        """Score images, each with the memory of its category."""
        if not self.is_few_shot:
            return super().predict_batch(batch)  # type: ignore[misc]
        names = categories_of(batch, self._datamodule)
        rows = {name: [row for row, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for name, own in rows.items():
            self._recollect(name)
            # One by one: a list of rows as index would be copied to the device of the images, and waited for.
            result = self._module.model(torch.stack([batch.image[row] for row in own]))
            found.update(zip(own, zip(result.pred_score, result.anomaly_map, strict=True), strict=True))
        score, maps = (torch.stack(each) for each in zip(*map(found.get, range(len(names))), strict=True))
        return InferenceBatch(pred_score=score, anomaly_map=maps)

    def on_validation_start(self) -> None:
        """Draw new references."""
        super().on_validation_start()  # type: ignore[misc]
        self._forget()

    def on_validation_epoch_end(self) -> None:
        """Record the number of references with which the thresholds are fitted."""
        super().on_validation_epoch_end()  # type: ignore[misc]
        self.threshold_shots = self._shots

    def on_test_start(self) -> None:
        """Draw new references; warn if the thresholds were fitted with another number of them."""
        super().on_test_start()  # type: ignore[misc]
        self._forget()
        self._check_thresholds()

    def on_predict_start(self) -> None:
        """Draw new references; warn if the thresholds were fitted with another number of them."""
        super().on_predict_start()  # type: ignore[misc]
        self._forget()
        self._check_thresholds()

    def record(self) -> Record:
        """Add the content of the memory and the number of references for the thresholds."""
        record: Record = super().record()  # type: ignore[misc]
        return {**record, "memory_of": self.memory_of, "threshold_shots": self.threshold_shots}

    def take(self, record: Record) -> None:
        """Restore the description of the memory."""
        super().take(record)  # type: ignore[misc]
        self.memory_of = record.get("memory_of")
        self.threshold_shots = record.get("threshold_shots", 0)
        self._weigh()

    @property
    def _module(self) -> Any:  # this mixin is always mixed into an AnomalibModule
        return self

    @property
    def _options(self) -> Any:
        return self._module.hparams

    @property
    def _datamodule(self) -> Any:
        return datamodule_of(self._module)

    @property
    def _shots(self) -> int:
        return len(self.memory_of["references"]) if self.memory_of else 0

    def _forget(self) -> None:
        """Clear a memory that the datamodule fills: two datasets may have categories of the same name."""
        if self._options["k_shot"] and self._options["reference"] is None and self._datamodule is not None:
            self.memory_of = None

    def _recollect(self, category: str) -> None:
        """Fill the memory with references of a category."""
        wanted = self._wanted(category)
        if self.memory_of is not None and wanted.items() <= {"tile": None, **self.memory_of}.items():
            return
        if wanted["reference"] is not None:
            paths = files_of(wanted["reference"])
            paths = draw(paths, wanted["k_shot"], wanted["seed"], category) if wanted["k_shot"] else paths
        else:
            candidates = normal_images_of(self._datamodule, category, self._module.trainer.state.fn)
            paths = draw(candidates, wanted["k_shot"], wanted["seed"], category)
        logger.info("%d references of %s: %s", len(paths), printable(category), printable(", ".join(map(str, paths))))
        images = (image.to(self._module.device) for image in read_references(paths, self._module.pre_processor))
        self._module.model.remember(images, wanted["coreset_ratio"])
        self.memory_of = {**wanted, "references": list(map(str, paths)), "digests": list(map(hash_file, paths))}
        self._weigh()

    def _wanted(self, category: str) -> dict[str, Any]:
        """Return the description of the memory by the arguments; empty if that of a checkpoint is used."""
        options = {name: self._options[name] for name in ("k_shot", "reference", "seed", "coreset_ratio")}
        options["tile"] = plain_sizes(self._module.model.tiler)
        if options["reference"] is not None:
            given = options["reference"]
            options["reference"] = list(map(str, given)) if isinstance(given, list | tuple) else str(given)
            return options
        if options["k_shot"] and self._datamodule is not None:
            return {**options, "category": category}
        if self.memory_of is None:
            msg = (
                f"k_shot={options['k_shot']}: expected a datamodule with normal training images, or "
                f"reference=<a folder or list of normal images>, got neither"
            )
            raise ValueError(msg)
        if options["k_shot"] and options["k_shot"] != self.memory_of["k_shot"]:
            msg = (
                f"k_shot={options['k_shot']}: the memory holds references of k_shot={self.memory_of['k_shot']}, "
                f"to draw others expected a datamodule with normal training images, or "
                f"reference=<a folder or list of normal images>"
            )
            raise ValueError(msg)
        if category not in {ANY_CATEGORY, self.memory_of.get("category", category)}:
            msg = (
                f"the memory holds references of {self.memory_of['category']}, got an image of {category}: "
                f"pass k_shot (with a datamodule) or reference to replace them"
            )
            raise ValueError(msg)
        if options["tile"] != self.memory_of.get("tile"):
            msg = (
                f"the memory holds references tiled as {self.memory_of.get('tile')} (tile and stride), got images "
                f"tiled as {options['tile']}: pass k_shot (with a datamodule) or reference to replace them"
            )
            raise ValueError(msg)
        return {}

    def _weigh(self) -> None:
        trained = bool(self._module.trained_on)
        if self.memory_of is not None and not trained:
            logger.info("No trained weights: scores are those of the memory alone (alpha = 0).")
        self._module.model.alpha = self._options["alpha"] if trained else 0.0

    def _check_thresholds(self) -> None:
        shots = self._options["k_shot"] or self._shots
        known = raw_thresholds(self._module.post_processor).get("image")
        if known is not None and not torch.isnan(known) and self.threshold_shots != shots:
            logger.warning(
                "The thresholds were fitted with %d references and are used with %d: expect other error rates.",
                self.threshold_shots,
                shots,
            )
