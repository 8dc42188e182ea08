"""The part of every model of this package that anomalib and Lightning call, trained or not."""

from typing import Any

from anomalib import LearningType
from anomalib.data import Batch, InferenceBatch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT

from anomalib_zsad.clip.embedded import USUAL_SIZE
from anomalib_zsad.data.adopting import adopt
from anomalib_zsad.evaluation.drift import DriftWarning
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.predictions import PredictionWriter
from anomalib_zsad.evaluation.visualizer import CategoryVisualizer
from anomalib_zsad.models.parts.checkpoint import CheckedCheckpointIO
from anomalib_zsad.models.parts.class_names import ClassNames
from anomalib_zsad.models.parts.detecting import Detecting
from anomalib_zsad.models.parts.encoder import encoders_in
from anomalib_zsad.models.parts.export import ExportHooks
from anomalib_zsad.models.parts.hub_folders import HubFolders
from anomalib_zsad.models.parts.persistence import Persistence
from anomalib_zsad.models.parts.pre_processor import ClipPreProcessor
from anomalib_zsad.models.parts.termination import Termination
from anomalib_zsad.models.parts.validity import ScoreCheck
from anomalib_zsad.seam.trainers import share_results_folder


class Detector(Detecting, ExportHooks, HubFolders, Persistence):
    """Base of models that score images: components, steps, record and export.

    A model is declared as `class ClipZeroShot(Detector, AnomalibModule)`: anomalib lists direct subclasses only. It
    brings `build`, which makes `model`, a torch module whose forward gives raw probabilities, of the hyper-parameters,
    and `class_names`, where its prompts name classes.
    """

    class_names: ClassNames | None = None
    """Maps categories to class names in prompts; None if no prompt names a class."""

    trains_on_anomalies = False
    """Whether the training data must have anomalous images with masks."""

    def predict_batch(self, batch: Batch) -> InferenceBatch:
        """Score the images of a batch, each with the name of its class; override to use more of a batch."""
        names = self.names_of(batch)
        return self.model(batch.image) if names is None else self.model(batch.image, names)

    def names_of(self, batch: Batch) -> list[str] | None:
        """Return the class name of every image for its prompt; None if no prompt names a class."""
        return None if self.class_names is None else self.class_names.of(batch, self)

    @property
    def holds_nothing(self) -> bool:
        """Whether scores would be meaningless, as those of an untrained model."""
        return False

    def check_exportable(self) -> None:
        """Raise an error if the model cannot be exported."""

    # Interface of anomalib

    @property
    def learning_type(self) -> LearningType:
        """Return ONE_CLASS: the engine does not train zero-shot models."""
        return LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments that the engine passes to the trainer."""
        return {"num_sanity_val_steps": 0}

    @classmethod
    def configure_pre_processor(cls, image_size: int | tuple[int, int] | None = None) -> PreProcessor:
        """Resize to a height and width in pixels (bicubic, antialias) and normalise as CLIP was trained."""
        return ClipPreProcessor.of_size(image_size or USUAL_SIZE)

    @classmethod
    def configure_post_processor(cls) -> MonotonePostProcessor:
        """Map the threshold fitted on validation data to 0.5, strictly increasing."""
        return MonotonePostProcessor()

    @staticmethod
    def configure_evaluator() -> ZeroShotEvaluator:
        """Evaluate raw scores per category, and average over categories."""
        return ZeroShotEvaluator()

    @classmethod
    def configure_visualizer(cls) -> CategoryVisualizer:
        """Draw anomalib's pictures into one folder for each category."""
        return CategoryVisualizer()

    def configure_callbacks(self) -> list[Callback]:
        """Order the components: those that read raw scores come before the post-processor."""
        callbacks = list(super().configure_callbacks())  # type: ignore[misc]
        evaluators = [each for each in callbacks if isinstance(each, ZeroShotEvaluator)]
        raw = [ScoreCheck(), PredictionWriter(), DriftWarning(), *evaluators]
        others = [each for each in callbacks if not isinstance(each, ZeroShotEvaluator)]
        first = [each for each in others if isinstance(each, PreProcessor)]
        return [*first, *raw, *(each for each in others if each not in first), Termination()]

    # Steps and hooks

    def validation_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:  # noqa: ARG002
        """Score a batch of validation data, for the thresholds."""
        return self._scored(batch)

    def test_step(self, batch: Batch, batch_idx: int, *_: Any) -> STEP_OUTPUT:  # noqa: ARG002
        """Score a batch of test data."""
        return self._scored(batch)

    def predict_step(self, batch: Batch, batch_idx: int, *_: Any) -> STEP_OUTPUT:  # noqa: ARG002
        """Score a batch."""
        return self._scored(batch)

    def val_dataloader(self) -> list:
        """Return no loaders, so that the engine can predict without a datamodule."""
        return []

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Install the checked reader of checkpoints, and the rules of this package for reading images.

        Raises:
            ImportError: If a package that `runtime` needs is missing, or does not work.
        """
        module = self._module
        for encoder in encoders_in(module.model):
            if encoder.tower is not None:
                encoder.tower.check_installed()
        module.trainer.strategy.checkpoint_io = CheckedCheckpointIO(module.checkpoint_safe_globals())
        share_results_folder(module.trainer)
        adopt(module.trainer, module.pre_processor)

    def on_validation_epoch_end(self) -> None:
        """Record the data that thresholds are fitted to."""
        super().on_validation_epoch_end()  # type: ignore[misc]
        datamodule = self._module.trainer.datamodule
        self.thresholds_fitted_on = getattr(datamodule, "training_sets", []) or [getattr(datamodule, "name", "unknown")]

    def _scored(self, batch: Batch) -> STEP_OUTPUT:
        return batch.update(**self.predict_batch(batch)._asdict())
