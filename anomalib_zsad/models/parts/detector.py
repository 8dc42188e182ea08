"""What all models of this package have in common towards anomalib and Lightning, whatever they are made of."""

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
from anomalib_zsad.models.parts.export import ExportHooks
from anomalib_zsad.models.parts.hub import HubFolders
from anomalib_zsad.models.parts.persistence import Persistence
from anomalib_zsad.models.parts.pre_processor import ClipPreProcessor
from anomalib_zsad.models.parts.termination import Termination
from anomalib_zsad.models.parts.validity import check_scores
from anomalib_zsad.seam.trainers import share_results_folder


class Detector(Detecting, ExportHooks, HubFolders, Persistence):
    """The plumbing of a model that scores images: components, steps, record and export.

    A model is declared as `class ClipZeroShot(Detector, AnomalibModule)`: anomalib lists direct subclasses only. It
    brings `build`, which makes `model`, a torch module whose forward gives raw probabilities, of the hyper-parameters,
    and `class_names`, where its prompts name classes.
    """

    class_names: ClassNames | None = None
    """What names the classes of images in prompts; None where no prompt names one."""

    trains_on_anomalies = False
    """Whether the training data must have anomalous images with masks."""

    def predict_batch(self, batch: Batch) -> InferenceBatch:
        """Score the images of a batch, each as one of its class; what uses more of a batch says so here."""
        names = self.names_of(batch)
        return self.model(batch.image) if names is None else self.model(batch.image, names)

    def names_of(self, batch: Batch) -> list[str] | None:
        """Name the class of every image in the words of its prompts; None where no prompt names a class."""
        return None if self.class_names is None else self.class_names.of(batch, self)

    @property
    def holds_nothing(self) -> bool:
        """Whether scores would mean nothing, as those of a model that has to be trained first."""
        return False

    def check_exportable(self) -> None:
        """Refuse to export what would not score."""

    # What anomalib asks for

    @property
    def learning_type(self) -> LearningType:
        """Make the engine train: it does not fit what calls itself zero-shot."""
        return LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """What the engine passes to the trainer, whatever the user gave it."""
        return {"num_sanity_val_steps": 0}

    @classmethod
    def configure_pre_processor(cls, image_size: int | tuple[int, int] | None = None) -> PreProcessor:
        """Resize to a height and width in pixels (bicubic, antialias) and normalise as CLIP was trained."""
        return ClipPreProcessor.of_size(image_size or USUAL_SIZE)

    @classmethod
    def configure_post_processor(cls) -> MonotonePostProcessor:
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
        """Order the components: what measures and records raw scores comes before what changes them."""
        callbacks = list(super().configure_callbacks())  # type: ignore[misc]
        raw = [PredictionWriter(), DriftWarning(), *(each for each in callbacks if isinstance(each, ZeroShotEvaluator))]
        others = [each for each in callbacks if not isinstance(each, ZeroShotEvaluator)]
        first = [each for each in others if isinstance(each, PreProcessor)]
        return [*first, *raw, *(each for each in others if each not in first), Termination()]

    # Steps and hooks

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

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Have checkpoints checked before they are read, and images read by this package's rules."""
        module = self._module
        module.trainer.strategy.checkpoint_io = CheckedCheckpointIO(module.checkpoint_safe_globals())
        share_results_folder(module.trainer)
        adopt(module.trainer, module.pre_processor)

    def on_validation_epoch_end(self) -> None:
        """Note which data the thresholds are fitted to."""
        super().on_validation_epoch_end()  # type: ignore[misc]
        datamodule = self._module.trainer.datamodule
        self.thresholds_fitted_on = getattr(datamodule, "training_sets", []) or [getattr(datamodule, "name", "unknown")]

    def _scored(self, batch: Batch) -> STEP_OUTPUT:
        return batch.update(**check_scores(self.predict_batch(batch), batch)._asdict())
