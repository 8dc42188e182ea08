"""CLIP as a baseline without training."""

from pathlib import Path
from typing import Any

from anomalib.data import Batch
from anomalib.models import AnomalibModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

import anomalib_zsad.arguments as arg
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.models.clip_zero_shot.torch_model import ClipZeroShotModel, MeanPrompts
from anomalib_zsad.models.parts.class_names import ClassNames, readable_words
from anomalib_zsad.models.parts.class_prompts import ClassPrompts
from anomalib_zsad.models.parts.common_arguments import documented
from anomalib_zsad.models.parts.compiling import Compile
from anomalib_zsad.models.parts.detector import Detector
from anomalib_zsad.models.parts.encoder import Encoder
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.runtime import Runtime


class ClipZeroShot(Detector, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """CLIP as it is, compared with prompts of a normal and an anomalous state: a baseline, nothing is trained.

    With its defaults it is the row "CLIP" of the papers' tables. "CLIP-AC" averages more states and templates, such as
    the templates of `open_clip.OPENAI_IMAGENET_TEMPLATES`; `configs/benchmark/kano_clip.yaml` has a list. The papers
    name neither prompts nor the temperature and blur of the map: AnomalyCLIP's words stand here, CLIP's own
    temperature, and the blur of the other methods.

    Args:
        normal_states: Phrases for a normal object; {} stands for its class.
        abnormal_states: Phrases for an anomalous one.
        templates: Prompt templates; {} stands for the phrase.
        temperature: Divides every cosine.
        blur_sigma: Standard deviation in pixels of the blur of the map; 0 for none.
        image_threshold: The raw image score above which an image is anomalous. None: 0.5.

    Raises:
        ValueError: If an argument does not fit the backbone.
        OSError: If weights can neither be found nor downloaded.
    """

    model: ClipZeroShotModel

    @documented
    @arg.checked
    def __init__(
        self,
        backbone: arg.Text = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: arg.ImageSize | None = None,
        normal_states: arg.Templates = ("a normal {}",),
        abnormal_states: arg.Templates = ("an anomalous {}",),
        templates: arg.Templates = ("a photo of {}.",),
        class_name: arg.Text | None = None,
        class_names: dict[str, str] | str | Path | None = None,
        temperature: arg.Temperature = 0.01,
        blur_sigma: arg.Sigma = 4.0,
        tile: arg.ImageSize | None = None,
        tile_overlap: arg.Overlap = 0.25,
        tile_batch: arg.OfRun[arg.Count] = 8,
        compile: arg.OfMachine[Compile] = False,
        runtime: arg.OfMachine[Runtime] = "torch",
        image_threshold: arg.Share | None = None,
        pixel_threshold: arg.Share | None = None,
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        super().__init__(post_processor=post_processor, **components)
        self.assemble(components)

    def build(self) -> None:
        """Make the torch model of the arguments."""
        given: Any = self.hparams
        clip = self.load_clip("bilinear")
        self.class_names = ClassNames(readable_words, given.class_names, given.class_name)
        self.model = ClipZeroShotModel(
            Encoder(clip, [clip.n_blocks]),
            MeanPrompts(ClassPrompts(given.normal_states, given.abnormal_states, given.templates)),
            self.class_names.default,
            ScoreHead(given.blur_sigma),
            given.temperature,
        )

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """No epochs of training."""
        return {**super().trainer_arguments, "max_epochs": 1}

    def setup(self, stage: str) -> None:
        """Refuse to train.

        Raises:
            ValueError: If it is to be trained.
        """
        if stage == TrainerFn.FITTING:
            msg = f"{type(self).__name__} has nothing to train: run anomalib test without training"
            raise ValueError(msg)
        super().setup(stage)

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:
        """Never called: Lightning requires it, and `setup` refuses to train."""

    def configure_optimizers(self) -> None:
        """Nothing is trained."""
