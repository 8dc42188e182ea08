"""How KAnoCLIP is built, trained and loaded."""

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from anomalib_zsad import arguments as arg
from anomalib_zsad.clip.backbone import Activation, FrozenClip, PositionResize
from anomalib_zsad.data.item import ANY_CATEGORY
from anomalib_zsad.data.names import read_class_words
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.losses import ScoreReduction
from anomalib_zsad.functional.processes import known_to_processes
from anomalib_zsad.models.kano_clip import diagnostics
from anomalib_zsad.models.kano_clip.adapter import BiCA, BiCMCI, Cross, Order
from anomalib_zsad.models.kano_clip.conv_adapter import ConvAdapter, ConvKind
from anomalib_zsad.models.kano_clip.deep_prompts import DeepPrompts
from anomalib_zsad.models.kano_clip.deformable import DeformableAttention
from anomalib_zsad.models.kano_clip.knowledge_driven import KnowledgeMixin
from anomalib_zsad.models.kano_clip.loss import KAnoClipLoss, knowledge_loss
from anomalib_zsad.models.kano_clip.maps import MapNorm
from anomalib_zsad.models.kano_clip.prompts import FixedPrompts, KnowledgePrompts, TextEnsemble, class_words
from anomalib_zsad.models.kano_clip.torch_model import (
    ClassSource,
    KAnoClipModel,
    Precision,
    StageReduction,
)
from anomalib_zsad.models.parts.feature_cache import CacheDtype
from anomalib_zsad.models.parts.mixin import ZeroShotMixin

logger = logging.getLogger(__name__)

DeformAttention = Literal["dat", "none"]
KdScope = Literal["class", "global", "image"]
KdWeighting = Literal["count", "balanced"]
LocalLossOn = Literal["aggregate", "per_stage"]
PatchProjection = Literal["clip", "linear"]


class KAnoClip(KnowledgeMixin, ZeroShotMixin, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """KAnoCLIP: knowledge-driven prompts and enhanced cross-modal integration (arXiv 2501.03786).

    Prompts of a normal and an abnormal state are trained on an auxiliary dataset with normal and anomalous images and
    masks, drawn to descriptions of defects from a knowledge base, and meet the patches of CLIP-VV at four stages.
    There is no published implementation: where the paper is silent, arguments say what was chosen.

    Args:
        backbone: An open_clip model name; not used where `pretrained` is a file, whose shapes tell the architecture.
        pretrained: A tag of open_clip, a file with the weights of a CLIP, or None for untrained weights (tests only).
        image_size: Height and width in pixels that images are resized to; multiples of the patch size. None: 518, or
            over the small CLIP of this package the 168 that it was trained at.
        activation: "quick_gelu" for OpenAI's weights as they were trained, or "gelu".
        position_resize: How position embeddings are brought to another size.
        feature_layers: Vision blocks after which the stages end, counted from 1. None: the last of each quarter
            (6, 12, 18, 24 at ViT-L).
        class_name: The class of all images. None: the sample's own, else the datamodule's, else "object".
        class_names: Words for classes in the prompts that take precedence, by category: a mapping or a YAML file.
        knowledge: The knowledge base for training: "builtin", or a file.
        use_knpl: False for fixed prompts and no knowledge (table 3 of the paper).
        use_vv: False for CLIP's own patch tokens instead of those of V-V attention (table 3).
        use_bicmci: False for patches and texts that are compared as they are (table 3).
        use_conv_adapter: False for the global feature as it is (table 3).
        prompt_length: Learnable vectors of each state (K of eq. 1).
        normal_states: Adjectives of the normal prompts.
        abnormal_states: Adjectives of the abnormal prompts.
        prompt_suffix: What ends a prompt.
        text_ensemble: How the adjectives are joined: the mean of the encoder's outputs ("mean_raw"), or of their
            directions ("mean_normalized").
        deep_prompt_depth: Text blocks after the first one that get learnable tokens of their own, as in AnomalyCLIP;
            these replace the tokens after the start token. 0 for none.
        deep_prompt_length: Such tokens of each block; at most `prompt_length`.
        vv_start_layer: The first block with V-V attention. None: the last of the first quarter (6 at ViT-L).
        vv_ffn: Let what V-V attention gathers go through the feed-forward part of the blocks as well.
        cls_source: The global feature: the class token of CLIP's "original" stream, or of the "vv" stream.
        cls_ln_post: Whether CLIP's last layer norm comes before the projection of that token.
        patch_projection: The patches' way into the joint space: that of "clip", or a learnt "linear" one a stage.
        bica_dim: Width of the attentions of Bi-CMCI.
        bica_heads: Their heads.
        bica_residual_init: Initial scale of their results, learnt for each channel.
        bica_order: Each modality attends to itself first ("self_first"), or to the other ("cross_first").
        bica_cross: Patches read the text as it was before it read them ("parallel"), or afterwards ("sequential").
        bica_ffn: Follow the attentions with feed-forward parts of four times their width.
        bica_shared: One block of Bi-CMCI for all stages, instead of one for each.
        deform_attention: "dat" lets patches attend to sampled points, "none" leaves that out.
        deform_kernel: Side in patches of the convolution that looks for offsets, odd.
        deform_stride: Patches between the sampled points.
        deform_groups: Groups of channels with sampling points of their own.
        deform_offset_range: How far a point may move, in halves of the distance to the next one.
        conv_adapter: The Conv-Adapter's way to its inner width (eq. 11): a depthwise convolution and a pointwise one
            ("dwsep"), a single grouped one with a learnt scale ("conv_adapter"), or a "linear" map without a kernel.
        bottleneck: Inner width of the Conv-Adapter.
        conv_kernel: Side of its spatial convolution in patches, odd.
        conv_adapter_context: Let it see the map of patches too, not the class token alone.
        conv_adapter_residual: Weight of the global feature that passes it by. Where it is not 0, W_up starts at zero,
            so that training starts with CLIP's own feature.
        temperature: Divides the cosines of patches (tau).
        score_temperature: Divides those of the global feature.
        stage_reduction: Join the stages' logits as their "sum" (eq. 9) or "mean".
        map_norm: Maps are a "softmax" over both states, or each is brought to [0, 1] for every image ("minmax"): then
            every image's abnormal map reaches 1, and the map's share of the image score says little.
        upsample_align_corners: Bring maps to the image's size with corners on corners, not with patches on their area.
        sigma: Standard deviation in pixels of the blur of the final map (eq. 10); 0 for none.
        smooth_in_training: Train with the maximum of the blurred map, as it is scored.
        score_reduction: What the image's loss sees of the score (see `score_loss`).
        focal_gamma: Focusing exponent of the focal loss (eq. 15).
        dice_smooth: Added to numerator and denominator of the dice losses (eq. 15).
        local_loss_on: The map's losses are those of the "aggregate" of all stages, or their sum "per_stage".
        kd_margin: By how much the abnormal prompts should be nearer to the knowledge than the normal ones (eq. 2).
        kd_scope: "class" draws the prompts of each class in a batch to all descriptions of the class and its images;
            "global" the mean of their prompts to the mean of their descriptions; "image" those of each image to the
            descriptions of its class and its own.
        kd_weighting: Every description counts once (eq. 3, "count"), or those of the class and those of its images
            count half each ("balanced").
        lambda_kd: Weight of the knowledge-driven loss (alpha of eq. 13).
        lambda_global: Weight of the image's cross-entropy (beta).
        lambda_local: Weight of the map's losses (gamma).
        lr_prompts: Adam's learning rate of the prompt vectors.
        lr_adapters: Adam's learning rate of everything else.
        betas: Adam's betas.
        epochs: Epochs of training, where the trainer's `max_epochs` does not say otherwise.
        precision: "bf16" runs the frozen vision tower in bfloat16; what learns stays in float32.
        cache_features: A folder to keep what the backbone computes in training, so that it is computed in the first
            epoch only (see `FeatureCache`); 11 MB an image at the defaults. None: computed in every epoch.
        cache_dtype: "float16" or "bfloat16", what is kept there.
        image_threshold: The raw image score above which an image is anomalous. None: as fitted to validation data.
        pixel_threshold: The same of the pixels of a map.
        weights: An adapter file that `save_weights` wrote. None: to be trained.
        seed: Of initialisation and training.
        post_processor: Ours with other options, anomalib's, or False for none.
        **components: anomalib's pre_processor, evaluator and visualizer.

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
    run_arguments = ZeroShotMixin.run_arguments | {"knowledge"}

    @arg.checked
    def __init__(
        self,
        backbone: arg.Text = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: arg.ImageSize | None = None,
        activation: Activation = "quick_gelu",
        position_resize: PositionResize = "bicubic_antialias",
        feature_layers: arg.Layers | None = None,
        class_name: arg.Text | None = None,
        class_names: dict[str, str] | str | Path | None = None,
        knowledge: str | Path = "builtin",
        use_knpl: bool = True,
        use_vv: bool = True,
        use_bicmci: bool = True,
        use_conv_adapter: bool = True,
        prompt_length: arg.Count = 12,
        normal_states: arg.Texts = ("normal", "perfect"),
        abnormal_states: arg.Texts = ("abnormal", "defective"),
        prompt_suffix: str = ".",
        text_ensemble: TextEnsemble = "mean_raw",
        deep_prompt_depth: arg.CountOrNone = 0,
        deep_prompt_length: arg.Count = 4,
        vv_start_layer: arg.Count | None = None,
        vv_ffn: bool = False,
        cls_source: ClassSource = "original",
        cls_ln_post: bool = True,
        patch_projection: PatchProjection = "clip",
        bica_dim: arg.Width = 256,
        bica_heads: arg.Count = 8,
        bica_residual_init: arg.Weight = 0.1,
        bica_order: Order = "self_first",
        bica_cross: Cross = "parallel",
        bica_ffn: bool = False,
        bica_shared: bool = False,
        deform_attention: DeformAttention = "dat",
        deform_kernel: arg.OddSide = 7,
        deform_stride: arg.Side = 4,
        deform_groups: arg.Count = 4,
        deform_offset_range: arg.Weight = 2.0,
        conv_adapter: ConvKind = "dwsep",
        bottleneck: arg.Width = 192,
        conv_kernel: arg.OddSide = 3,
        conv_adapter_context: bool = True,
        conv_adapter_residual: arg.Weight = 0.0,
        temperature: arg.Temperature = 0.07,
        score_temperature: arg.Temperature = 0.07,
        stage_reduction: StageReduction = "sum",
        map_norm: MapNorm = "softmax",
        upsample_align_corners: bool = False,
        sigma: arg.Sigma = 4.0,
        smooth_in_training: bool = True,
        score_reduction: ScoreReduction = "half",
        focal_gamma: arg.Exponent = 2.0,
        dice_smooth: arg.Positive = 1.0,
        local_loss_on: LocalLossOn = "aggregate",
        kd_margin: Annotated[float, arg.Range(ge=-2, le=2)] = 0.0,
        kd_scope: KdScope = "class",
        kd_weighting: KdWeighting = "count",
        lambda_kd: arg.Weight = 1.0,
        lambda_global: arg.Weight = 1.0,
        lambda_local: arg.Weight = 1.0,
        lr_prompts: arg.Rate = 1e-3,
        lr_adapters: arg.Rate = 5e-4,
        betas: arg.Betas = (0.5, 0.999),
        epochs: arg.Epochs = 15,
        precision: Precision = "fp32",
        cache_features: str | Path | None = None,
        cache_dtype: CacheDtype = "float16",
        image_threshold: arg.Share | None = None,
        pixel_threshold: arg.Share | None = None,
        weights: str | Path | None = None,
        seed: arg.Seed = 111,
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        super().__init__(post_processor=post_processor, **components)
        self.assemble(components)

    def build(self) -> None:
        """Make the torch model, the loss and what training needs of the arguments."""
        given: Any = self.hparams
        clip = FrozenClip.load(
            given.backbone, given.pretrained, given.image_size, given.activation, given.position_resize
        )
        layers = clip.check_layers(clip.quarters() if given.feature_layers is None else given.feature_layers)
        width = clip.joint_width

        def bica() -> BiCA:
            sizes = (
                given.bica_dim,
                given.bica_heads,
                given.deform_groups,
                given.deform_kernel,
                given.deform_stride,
                given.deform_offset_range,
            )
            deformable = DeformableAttention(width, *sizes) if given.deform_attention == "dat" else None
            return BiCA(
                width,
                given.bica_dim,
                given.bica_heads,
                given.bica_residual_init,
                deformable,
                given.bica_cross,
                given.bica_order,
                given.bica_ffn,
            )

        def prompts() -> KnowledgePrompts:
            sizes = (given.deep_prompt_depth, given.deep_prompt_length, given.prompt_length)
            deep = DeepPrompts(clip, *sizes) if given.deep_prompt_depth else None
            states = (given.normal_states, given.abnormal_states)
            return KnowledgePrompts(clip, given.prompt_length, *states, given.prompt_suffix, given.text_ensemble, deep)

        def adapter() -> ConvAdapter:
            sizes = (given.bottleneck, given.conv_kernel, given.conv_adapter_context, given.conv_adapter_residual)
            return ConvAdapter(width, *sizes, given.conv_adapter)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given.seed)
            self.model = KAnoClipModel(
                clip,
                prompts() if given.use_knpl else FixedPrompts(),
                BiCMCI([bica()] * len(layers) if given.bica_shared else [bica() for _ in layers])
                if given.use_bicmci
                else None,
                adapter() if given.use_conv_adapter else None,
                nn.ModuleList(nn.Linear(clip.vision_width, width) for _ in layers)
                if given.patch_projection == "linear"
                else None,
                layers=layers,
                vv_start=_vv_start(given.vv_start_layer, clip) if given.use_vv else None,
                vv_ffn=given.vv_ffn,
                cls_source=given.cls_source,
                cls_ln_post=given.cls_ln_post,
                temperature=given.temperature,
                score_temperature=given.score_temperature,
                stage_reduction=given.stage_reduction,
                map_norm=given.map_norm,
                align_corners=given.upsample_align_corners,
                sigma=given.sigma,
                class_name=class_words(given.class_name or ANY_CATEGORY, read_class_words(given.class_names)),
                precision=given.precision,
            )
        self.loss = KAnoClipLoss(
            given.focal_gamma,
            given.dice_smooth,
            given.kd_margin,
            given.lambda_kd,
            given.lambda_global,
            given.lambda_local,
            given.score_reduction,
        )
        self.own_names = read_class_words(given.class_names)
        self.smooth_in_training = given.smooth_in_training
        self.local_loss_on = given.local_loss_on
        self.kd_scope = given.kd_scope
        self.kd_weighting = given.kd_weighting
        self.lr_prompts = given.lr_prompts
        self.lr_adapters = given.lr_adapters
        self.betas = given.betas
        self._seen: list[Tensor] = []

    def predict_batch(self, batch: Any) -> InferenceBatch:
        """Score a batch, each image as one of its own class."""
        return self.model(batch.image, self.names_of(batch))

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses, eq. 13."""
        size = (batch.image.shape[-2], batch.image.shape[-1])
        text = self.model.text_features(self.names_of(batch))
        logits = self.model.compare(self.model.encode(batch.image), self.model.clip.grid_of(*size), text)
        scores = self.model.scores(logits, size)
        per_stage = self.local_loss_on == "per_stage"
        stages = logits.patches.unbind(1) if per_stage else ()
        maps = [self.model.maps_of(each, size) for each in stages] or [scores.log_odds]
        abnormal = torch.stack([each.abnormal for each in maps])
        normal = [each.normal for each in maps if each.normal is not None]
        distances, shares = self.knowledge_distances(batch, text), self.knowledge_shares(batch)
        parts = scores.parts(self.smooth_in_training)
        if self._trainer is not None and self._trainer.training:
            self._watch(logits, scores, batch.gt_label, distances)
        given = (batch.gt_label, batch.gt_mask, distances, shares)
        return self.loss(parts, abnormal, *given, torch.stack(normal) if normal else None)

    def names_of(self, batch: Any) -> list[str]:
        """Name the class of every image in the words of its prompts."""
        return [class_words(category, self.own_names) for category in self.categories_of(batch)]

    def configure_optimizers(self) -> Optimizer:
        """Train prompts and adapters with Adam, each at its own rate.

        Raises:
            ValueError: If all parts are switched off.
        """
        prompts = list(self.model.prompts.parameters())
        held = {id(parameter) for parameter in prompts}
        adapters = [each for each in self.model.parameters() if each.requires_grad and id(each) not in held]
        groups = [{"params": prompts, "lr": self.lr_prompts}, {"params": adapters, "lr": self.lr_adapters}]
        groups = [group for group in groups if group["params"]]
        if not groups:
            msg = "expected something to train, but all parts of KAnoClip are switched off: test it as it is"
            raise ValueError(msg)
        return Adam(groups, betas=self.betas)

    def on_train_start(self) -> None:
        """Log how well the held-out images are told apart before the first step."""
        super().on_train_start()
        found = {} if self.trainer.global_step else diagnostics.auroc_of(diagnostics.parts_of_held_out(self))
        self.log_dict({f"start_{name}": value for name, value in found.items()})
        for name, value in found.items():
            logger.info("%s = %.4f before training", name, value)

    def on_train_epoch_start(self) -> None:
        """Forget the images of an epoch that did not come to its end."""
        self._seen = []

    def on_train_epoch_end(self) -> None:
        """Log how well each part of the score does alone, and how much each attention counts."""
        found = diagnostics.auroc_of(self._seen)
        if self.model.bicmci is not None:
            found.update(self.model.bicmci.scale_norms())
        self.log_dict({f"train_{name}": value for name, value in found.items()})
        self._seen = []

    def _watch(self, logits: Any, scores: Any, label: Tensor, distances: Tensor | None) -> None:
        active = None if distances is None else knowledge_loss(distances, self.loss.kd_margin) > 0
        found = diagnostics.of_step(logits, scores, active, distances)
        found = {f"train_{name}": value for name, value in found.items()}
        self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(label), sync_dist=True)
        # Processes are together in a step, not in the hooks at the end of an epoch: there the progress bar of the first
        # one alone may be waiting for the others.
        self._seen += known_to_processes(diagnostics.parts_of(scores, label).cpu())


def _vv_start(layer: int | None, clip: FrozenClip) -> int:
    if layer is None:
        return clip.quarters()[0]
    if not 1 <= layer <= clip.n_blocks:
        msg = f"vv_start_layer must name a block from 1 to {clip.n_blocks} of this backbone, got {layer}"
        raise ValueError(msg)
    return layer
