"""How KAnoCLIP is built, trained and loaded."""

import logging
from pathlib import Path
from typing import Any

import torch
from anomalib.models import AnomalibModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from anomalib_zsad import arguments as arg
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.processes import known_to_processes
from anomalib_zsad.functional.scoring import size_of
from anomalib_zsad.functional.seeds import seeded
from anomalib_zsad.models.kano_clip import diagnostics
from anomalib_zsad.models.kano_clip.adapter import BiCA, BiCMCI
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.kano_clip.conv_adapter import ConvAdapter
from anomalib_zsad.models.kano_clip.knowledge_driven import KnowledgeMixin
from anomalib_zsad.models.kano_clip.loss import KAnoClipLoss, knowledge_loss
from anomalib_zsad.models.kano_clip.prompts import FixedPrompts, KnowledgePrompts
from anomalib_zsad.models.kano_clip.stages import StageTokens
from anomalib_zsad.models.kano_clip.torch_model import KAnoClipModel
from anomalib_zsad.models.parts.class_names import ClassNames, readable_words
from anomalib_zsad.models.parts.common_arguments import documented
from anomalib_zsad.models.parts.compiling import Compile
from anomalib_zsad.models.parts.encoder import Encoder, Precision
from anomalib_zsad.models.parts.feature_cache import CacheDtype
from anomalib_zsad.models.parts.mixin import ZeroShotMixin
from anomalib_zsad.models.parts.runtime import Runtime
from anomalib_zsad.seam.trainers import trainer_of

logger = logging.getLogger(__name__)


class KAnoClip(KnowledgeMixin, ZeroShotMixin, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """KAnoCLIP: knowledge-driven prompts and enhanced cross-modal integration (arXiv 2501.03786).

    Prompts of a normal and an abnormal state are trained on an auxiliary dataset with normal and anomalous images and
    masks, pulled to descriptions of defects from a knowledge base, and compared with the patches of CLIP-VV at four
    stages. There is no published implementation: `KAnoChoices` has the settings that the paper leaves open.

    Args:
        feature_layers: Vision blocks after which the stages end, counted from 1. None: the last of each quarter
            (6, 12, 18, 24 at ViT-L).
        knowledge: The knowledge base for training: "builtin", or a file.
        use_knpl: False for fixed prompts without knowledge (table 3 of the paper).
        use_vv: False for CLIP's own patch tokens instead of those of V-V attention (table 3).
        use_bicmci: False for patches and text without mutual refinement (table 3).
        use_conv_adapter: False for the global feature without adapter (table 3).
        prompt_length: Learnable vectors of each state (K of eq. 1).
        normal_states: Adjectives of the normal prompts.
        abnormal_states: Adjectives of the abnormal prompts.
        sigma: Standard deviation in pixels of the blur of the final map (eq. 10); 0 for none.
        lambda_kd: Weight of the knowledge-driven loss (alpha of eq. 13).
        lambda_global: Weight of the image's cross-entropy (beta).
        lambda_local: Weight of the map's losses (gamma).
        lr_prompts: Adam's learning rate of the prompt vectors.
        lr_adapters: Adam's learning rate of everything else.
        choices: Settings that the paper leaves open (see `KAnoChoices`).

    Raises:
        ValueError: If an argument does not fit the backbone.
        OSError: If weights can neither be found nor downloaded.

    Example:
        >>> from anomalib.engine import Engine
        >>> from anomalib_zsad import KAnoClip, MVTec, VisA
        >>> Engine().train(KAnoClip(), datamodule=VisA(root="./datasets/visa", target=MVTec()))  # doctest: +SKIP
    """

    model: KAnoClipModel
    loss: KAnoClipLoss
    choices: KAnoChoices
    class_names: ClassNames

    @documented
    @arg.checked
    def __init__(
        self,
        backbone: arg.Text = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: arg.ImageSize | None = None,
        feature_layers: arg.Layers | None = None,
        class_name: arg.Text | None = None,
        class_names: dict[str, str] | str | Path | None = None,
        knowledge: arg.OfRun[str | Path] = "builtin",
        use_knpl: bool = True,
        use_vv: bool = True,
        use_bicmci: bool = True,
        use_conv_adapter: bool = True,
        prompt_length: arg.Count = 12,
        normal_states: arg.Texts = ("normal", "perfect"),
        abnormal_states: arg.Texts = ("abnormal", "defective"),
        sigma: arg.Sigma = 4.0,
        lambda_kd: arg.Weight = 1.0,
        lambda_global: arg.Weight = 1.0,
        lambda_local: arg.Weight = 1.0,
        lr_prompts: arg.Rate = 1e-3,
        lr_adapters: arg.Rate = 5e-4,
        epochs: arg.OfRun[arg.Epochs] = 15,
        tile: arg.ImageSize | None = None,
        tile_overlap: arg.Overlap = 0.25,
        tile_batch: arg.OfRun[arg.Count] = 8,
        precision: Precision = "fp32",
        compile: arg.OfMachine[Compile] = False,
        runtime: arg.OfMachine[Runtime] = "torch",
        cache_features: arg.OfRun[str | Path | None] = None,
        cache_dtype: arg.OfRun[CacheDtype] = "float16",
        image_threshold: arg.Share | None = None,
        pixel_threshold: arg.Share | None = None,
        weights: arg.OfRun[str | Path | None] = None,
        seed: arg.Seed = 111,
        choices: KAnoChoices = KAnoChoices(),
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        super().__init__(post_processor=post_processor, **components)
        self.assemble(components)

    def build(self) -> None:
        """Make the prompts, BiCMCI, the Conv-Adapter, the torch model and the loss."""
        given: Any = self.hparams
        choices = self.choices = KAnoChoices(**given.choices)
        if given.tile is not None and choices.map_norm == "minmax":
            msg = "choices.map_norm='minmax' would stretch the map of each tile: expected 'softmax', got 'minmax'"
            raise ValueError(msg)
        plain = "it reads the V-V stream and the linear projection of a plain CLIP"
        clip = self.load_clip("bicubic_antialias", choices.activation, plain=plain)
        layers = clip.check_layers(given.feature_layers)
        encoder = Encoder(clip, layers, given.precision, StageTokens.of(choices, clip, given.use_vv))
        width = clip.joint_width
        states = (given.normal_states, given.abnormal_states)
        self.class_names = ClassNames(readable_words, given.class_names, given.class_name)
        with seeded(given.seed):
            self.model = KAnoClipModel(
                encoder,
                KnowledgePrompts(clip, given.prompt_length, *states, choices) if given.use_knpl else FixedPrompts(),
                BiCMCI([BiCA(width, choices) for _ in layers]) if given.use_bicmci else None,
                ConvAdapter(width, choices) if given.use_conv_adapter else None,
                choices,
                self.class_names.default,
                given.sigma,
            )
        self.loss = KAnoClipLoss(choices, given.lambda_kd, given.lambda_global, given.lambda_local)
        self._seen: list[Tensor] = []

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses, eq. 13."""
        size = size_of(batch.image)
        text = self.model.text_features(self.names_of(batch))
        logits = self.model.compare(self.model.encoder(batch.image), text)
        scores = self.model.scores(logits, size)
        per_stage = self.choices.local_loss_on == "per_stage"
        stages = logits.patches.unbind(1) if per_stage else ()
        maps = [self.model.maps_of(each, size) for each in stages] or [scores.log_odds]
        abnormal = torch.stack([each.abnormal for each in maps])
        normal = [each.normal for each in maps if each.normal is not None]
        distances, shares = self.knowledge_distances(batch, text), self.knowledge_shares(batch)
        parts = scores.parts(self.choices.smooth_in_training)
        if (trainer := trainer_of(self)) is not None and trainer.training:
            self._watch(logits, scores, batch.gt_label, distances)
        given = (batch.gt_label, batch.gt_mask, distances, shares)
        return self.loss(parts, abnormal, *given, torch.stack(normal) if normal else None)

    def configure_optimizers(self) -> Optimizer:
        """Train prompts and adapters with Adam, each at its own rate.

        Raises:
            ValueError: If all parts are switched off.
        """
        prompts = list(self.model.prompts.parameters())
        held = {id(parameter) for parameter in prompts}
        adapters = [each for each in self.model.parameters() if each.requires_grad and id(each) not in held]
        groups = [
            {"params": prompts, "lr": self.hparams["lr_prompts"]},
            {"params": adapters, "lr": self.hparams["lr_adapters"]},
        ]
        groups = [group for group in groups if group["params"]]
        if not groups:
            msg = "expected something to train, but all parts of KAnoClip are switched off: test it as it is"
            raise ValueError(msg)
        return Adam(groups, betas=self.choices.betas)

    def on_train_start(self) -> None:
        """Log the AUROC of the validation images before the first step."""
        super().on_train_start()
        found = {} if self.trainer.global_step else diagnostics.auroc_of(diagnostics.parts_of_held_out(self))
        self.log_dict({f"start_{name}": value for name, value in found.items()})
        for name, value in found.items():
            logger.info("%s = %.4f before training", name, value)

    def on_train_epoch_start(self) -> None:
        """Clear what an interrupted epoch left."""
        self._seen = []

    def on_train_epoch_end(self) -> None:
        """Log the AUROC of each part of the score, and the residual scales of the attentions."""
        found = diagnostics.auroc_of(self._seen)
        if self.model.bicmci is not None:
            found.update(self.model.bicmci.scale_norms())
        self.log_dict({f"train_{name}": value for name, value in found.items()})
        self._seen = []

    def _watch(self, logits: Any, scores: Any, label: Tensor, distances: Tensor | None) -> None:
        active = None if distances is None else knowledge_loss(distances, self.choices.kd_margin) > 0
        found = diagnostics.of_step(logits, scores, active, distances)
        found = {f"train_{name}": value for name, value in found.items()}
        self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(label), sync_dist=True)
        # Gathered in the step: at the end of an epoch the progress bar of the first process may wait for the others.
        self._seen += known_to_processes(diagnostics.parts_of(scores, label), Tensor.cpu)
