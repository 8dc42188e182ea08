"""How ACD-CLIP is built, trained and loaded."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from anomalib.data import Batch, InferenceBatch
from anomalib.models import AnomalibModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from anomalib_zsad import arguments as arg
from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.data.names import Domain, description, domain_of
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.scoring import size_of
from anomalib_zsad.functional.seeds import seeded
from anomalib_zsad.models.acd_clip.adapter import ConvLora, Lora, TextAdapter, Variant, VisionAdapter
from anomalib_zsad.models.acd_clip.augmentation import augment
from anomalib_zsad.models.acd_clip.choices import ACDChoices
from anomalib_zsad.models.acd_clip.loss import ACDClipLoss
from anomalib_zsad.models.acd_clip.prompts import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES
from anomalib_zsad.models.acd_clip.released import groups_in, read_released
from anomalib_zsad.models.acd_clip.torch_model import SCORING, ACDClipModel, Scoring
from anomalib_zsad.models.parts.adapter_file import Adapter
from anomalib_zsad.models.parts.class_names import ClassNames
from anomalib_zsad.models.parts.class_prompts import ClassPrompts
from anomalib_zsad.models.parts.common_arguments import documented
from anomalib_zsad.models.parts.compiling import Compile
from anomalib_zsad.models.parts.encoder import Encoder, Precision
from anomalib_zsad.models.parts.mixin import ZeroShotMixin
from anomalib_zsad.models.parts.record import new_record
from anomalib_zsad.models.parts.runtime import Runtime
from anomalib_zsad.models.parts.trained_weights import load_trained
from anomalib_zsad.seam.trainers import datamodule_of


class ACDClip(ZeroShotMixin, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """ACD-CLIP: decoupling representation and dynamic fusion for zero-shot anomaly detection.

    Adapters in both towers of CLIP, with convolutions in the vision tower, are trained once on an auxiliary dataset
    with normal and anomalous images and masks. Every group of blocks compares its patches with text about the class
    of the image, mixed from all levels of the text tower with weights that depend on the image.

    Args:
        n_groups: Groups that the blocks of both towers are divided into (N); it divides both.
        variant: "released" is the implementation of the published results, "paper" the equations of the paper.
        domain: "industrial" or "medical" decides how scores are made. None: as the datamodule's dataset is, else
            industrial.
        conv_lora: False for standard LoRA in the vision tower, without convolutions (table 2 of the paper).
        dynamic_fusion: False for the text of its own level in every group (table 2 of the paper).
        kernels: Sides of the convolutions in patches, odd (eq. 2-3).
        temperature: Divides the similarities of patches and text (tau of eq. 6).
        normal_states: Ways to name a normal object; {} stands for the class.
        abnormal_states: Ways to name an anomalous one.
        templates: Sentences of the prompts; {} stands for the named object.
        lambda_focal: Weight of the focal loss (eq. 7).
        lambda_dice: Weight of the dice losses (eq. 7).
        lambda_class: Weight of the cross-entropy (eq. 8).
        lr_text: Adam's learning rate of the text adapters.
        lr_vision: Adam's learning rate of the vision adapters, heads and gates.
        gradient_checkpointing: Compute the vision blocks again in the backward pass: less memory, more time.

    Raises:
        ValueError: If an argument does not fit the backbone.
        OSError: If weights can neither be found nor downloaded.

    Example:
        >>> from anomalib.engine import Engine
        >>> from anomalib_zsad import ACDClip, MVTec, VisA
        >>> Engine().train(ACDClip(), datamodule=VisA(root="./datasets/visa", target=MVTec()))  # doctest: +SKIP
    """

    paper_batch_size = 6
    model: ACDClipModel
    loss: ACDClipLoss

    @documented
    @arg.checked
    def __init__(
        self,
        backbone: arg.Text = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: arg.ImageSize | None = None,
        n_groups: arg.Count = 4,
        variant: Variant = "released",
        domain: Domain | None = None,
        class_name: arg.Text | None = None,
        class_names: dict[str, str] | str | Path | None = None,
        conv_lora: bool = True,
        dynamic_fusion: bool = True,
        kernels: arg.OddSides = (3, 5),
        temperature: arg.Temperature = 0.1,
        normal_states: arg.Templates = NORMAL_STATES,
        abnormal_states: arg.Templates = ABNORMAL_STATES,
        templates: arg.Templates = TEMPLATES,
        lambda_focal: arg.Weight = 1.0,
        lambda_dice: arg.Weight = 1.0,
        lambda_class: arg.Weight = 1.0,
        lr_text: arg.Rate = 5e-4,
        lr_vision: arg.Rate = 1e-3,
        epochs: arg.OfRun[arg.Epochs] = 20,
        tile: arg.ImageSize | None = None,
        tile_overlap: arg.Overlap = 0.25,
        tile_batch: arg.OfRun[arg.Count] = 8,
        precision: Precision = "fp32",
        compile: arg.OfMachine[Compile] = False,
        runtime: arg.OfMachine[Runtime] = "torch",
        gradient_checkpointing: arg.OfRun[bool] = False,
        image_threshold: arg.Share | None = None,
        pixel_threshold: arg.Share | None = None,
        weights: arg.OfRun[str | Path | None] = None,
        seed: arg.Seed = 0,
        choices: ACDChoices = ACDChoices(),
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        super().__init__(post_processor=post_processor, **components)
        self.assemble(components)

    def build(self) -> None:
        """Make the adapters of both towers, the torch model and the loss."""
        given: Any = self.hparams
        choices = self.choices = ACDChoices(**given.choices)
        plain = "its adapters inside both towers are made for those of a plain CLIP"
        clip = self.load_clip("bicubic_antialias", choices.activation, plain=plain)
        _check_groups(given.n_groups, clip)
        with seeded(given.seed):
            vision = VisionAdapter(
                clip,
                [self._vision_lora(clip.vision_width) for _ in range(given.n_groups)],
                choices.mix,
                choices.head_width,
                choices.gate_width,
                given.variant,
                given.dynamic_fusion,
                given.gradient_checkpointing,
            )
            text = TextAdapter(
                clip,
                [Lora(clip.text_width, choices.rank, choices.alpha) for _ in range(given.n_groups)],
                ClassPrompts(given.normal_states, given.abnormal_states, given.templates),
                choices.mix,
            )
        self.class_names = ClassNames(description, given.class_names, given.class_name)
        self.model = ACDClipModel(
            Encoder(clip, vision.layers, given.precision, vision.read),
            vision,
            text,
            self.class_names.default,
            given.variant,
            given.temperature,
            self._scoring,
        )
        self.loss = ACDClipLoss(choices.focal_gamma, given.lambda_focal, given.lambda_dice, given.lambda_class)
        self.lr_text = given.lr_text
        self.lr_vision = given.lr_vision

    @classmethod
    def load_released(cls, checkpoint: str | Path, **arguments: Any) -> "ACDClip":
        """Build the model with a checkpoint that the authors published.

        Args:
            checkpoint: `{"epoch", "text_adapter": state dict, "image_adapter": state dict}`.
            **arguments: Those of the class; `n_groups` is read from the checkpoint where it is not given.

        Raises:
            ValueError: If the file is not what it should be, asks for more than tensors, or does not fit the backbone.
        """
        tensors = read_released(Path(checkpoint))
        model = cls(**{"n_groups": groups_in(tensors), **arguments})
        load_trained(model, Adapter(tensors, new_record(cls.__name__)), origin=str(checkpoint))
        return model

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses, eq. 7-8."""
        logits = self.model.logits(batch.image, self.names_of(batch))
        maps = self.model.anomaly_map(logits, size_of(batch.image))
        return self.loss(logits.image, maps, batch.gt_label, batch.gt_mask)

    def predict_batch(self, batch: Batch) -> InferenceBatch:
        """Score the images of a batch with the settings of its dataset's domain."""
        self.model.scoring = self._scoring
        return super().predict_batch(batch)

    def setup(self, stage: str) -> None:
        """Use the settings of the dataset's domain, and augment the training images."""
        super().setup(stage)
        self.model.scoring = self._scoring
        if stage == TrainerFn.FITTING and self.choices.augmentation:
            augment(getattr(self.trainer, "datamodule", None), self._clip.image_size, self.hparams["seed"])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient of each mixing vector by its norm."""
        for mixed in (*self.model.vision.mixed, *self.model.text.mixed):
            clip_grad_norm_(mixed.weight, self.choices.mix_clip)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Train both adapters with Adam, each at its own rate, which falls after every epoch."""
        groups = [
            {"params": list(self.model.text.parameters()), "lr": self.lr_text},
            {"params": list(self.model.vision.parameters()), "lr": self.lr_vision},
        ]
        optimizer = Adam(groups, betas=self.choices.betas)
        scheduler = StepLR(optimizer, step_size=1, gamma=self.choices.lr_decay)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    @property
    def _domain(self) -> Domain:
        return self.hparams["domain"] or domain_of(datamodule_of(self))

    @property
    def _scoring(self) -> Scoring:
        """How scores are made in the domain, unless it was chosen otherwise."""
        chosen = {each.name: getattr(self.choices, each.name) for each in fields(Scoring)}
        blur = {} if self.hparams["variant"] == "released" else {"blur_size": 1}
        given = {name: value for name, value in chosen.items() if value is not None}
        return replace(SCORING[self._domain], **{**blur, **given})

    def _vision_lora(self, width: int) -> ConvLora | Lora:
        given, choices = self.hparams, self.choices
        if not given["conv_lora"]:
            return Lora(width, choices.rank, choices.alpha)
        sizes = (given["kernels"], choices.rank, choices.conv_rank, choices.alpha)
        return ConvLora(width, *sizes, given["variant"])


def _check_groups(n_groups: int, clip: FrozenClip) -> None:
    if n_groups < 1 or clip.n_blocks % n_groups or clip.n_text_blocks % n_groups:
        msg = (
            f"n_groups must divide the {clip.n_blocks} vision blocks and the {clip.n_text_blocks} text blocks of this "
            f"backbone, got {n_groups}"
        )
        raise ValueError(msg)
