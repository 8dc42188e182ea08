"""How WMoE-CLIP is built, trained and loaded."""

import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from anomalib_zsad import arguments as arg
from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.data.item import generators_of
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.losses import ScoreReduction
from anomalib_zsad.functional.processes import known_to_processes
from anomalib_zsad.models.parts.feature_cache import CacheDtype
from anomalib_zsad.models.parts.mixin import ZeroShotMixin
from anomalib_zsad.models.wmoe_clip import diagnostics, wavelet
from anomalib_zsad.models.wmoe_clip.adapter import PatchProjections, Projection, ProjectionInit, WaveletCrossAttention
from anomalib_zsad.models.wmoe_clip.experts import ContextAdapter, LayerContext, SemanticExperts
from anomalib_zsad.models.wmoe_clip.loss import WMoEClipLoss
from anomalib_zsad.models.wmoe_clip.sampler import ClassTokenSampler, Latent, SampledPrompts
from anomalib_zsad.models.wmoe_clip.torch_model import (
    InferenceSampling,
    MapFeatures,
    MapReduction,
    Precision,
    TokenScale,
    WMoEClipModel,
)
from anomalib_zsad.seam.trainers import trainer_of

Schedule = Literal["constant", "cosine"]
WARM_UP = 0.1
"""Share of the training during which the cosine schedule's rate rises."""


class WMoEClip(ZeroShotMixin, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """WMoE-CLIP: wavelet-enhanced mixture-of-experts prompt learning (arXiv 2603.06313).

    What learns is trained once on an auxiliary dataset with normal and anomalous images and masks; the result detects
    anomalies in categories it has never seen. No class name is used: two prompts are completed by vectors that are
    drawn for each image from its class token (CTDS). Text looks at patches whose high frequencies are gated (WCMA), and
    experts that the image chooses change its class token (SA-MoE). There is no published implementation; where the
    paper is silent, defaults are choices of ours.

    Args:
        backbone: An open_clip model name; not used where `pretrained` is a file, whose shapes tell the architecture.
        pretrained: A tag of open_clip, a file with the weights of a CLIP, or None for untrained weights (tests only).
        image_size: Height and width in pixels that images are resized to; multiples of the patch size. None: 518, or
            over the small CLIP of this package the 168 that it was trained at.
        feature_layers: Vision blocks whose patches are used, counted from 1. None: the last of each quarter
            (6, 12, 18, 24 at ViT-L).
        use_ctds: False for vectors that are the same for all images (table 2 of the paper).
        use_wcma: False for text that is not refined (table 2).
        use_samoe: False for CLIP's own class token (table 2).
        states: The words of the normal and the anomalous prompt, before the vectors (eq. 4).
        prompt_length: Vectors of each state, and samples of each image (m).
        prompt_scale: Scale of the vectors beside the words.
        prompt_latent: Vectors are samples "decoded" again, or the "latent" ones.
        cls_scale: Length of the class token: "raw" as CLIP gives it, "unit" 1, "sqrt_dim" the square root of its width.
        vae_hidden: Width of the hidden layers of the autoencoder (eq. 1).
        inference_sampling: What is drawn outside of training: the "mean", "fixed" noise that is the same for all
            images, or noise of its own for every image ("monte_carlo", which cannot be exported).
        patch_projection: "linear" trains a projection of patches for each layer, "clip" is CLIP's own.
        patch_projection_init: Trained projections start as CLIP's own ("clip"), or by "xavier".
        patch_ln_post: Whether CLIP's last layer norm comes before them.
        wavelet_kind: "dwt" decimates, "swt" does not.
        wavelet_return: How decimated bands get back to the grid: "idwt", "bilinear", "nearest", or "none".
        wavelet_pad: What stands beyond an odd grid: "symmetric", "reflect" or "zero".
        wcma_shared: One attention for all layers, or one for each.
        wcma_heads: Heads of the attention (eq. 7).
        wcma_residual: Whether refined text keeps the text that it was made of.
        gate_reduction: Divides the inner width of the gate (eq. 5).
        gate_bn: Batch normalisation in both branches of the gate, as MS-CAM has it. One attention for all layers has
            the same running statistics for all of them, and every process of a training those of its own batches
            unless the trainer's `sync_batchnorm` joins them.
        map_features: What text is compared with: the "patch" features or the "frequency"-enhanced ones.
        moe_adapter: The context of the experts: a "split" share of each layer, or one map of their "concat".
        n_experts: Experts (N of eq. 8).
        top_k: How many of them an image chooses (k of eq. 8).
        expert_hidden: Width of the hidden layer of each.
        gate_noise: Give the router noise of a learnt scale in training, as in Shazeer et al. 2017; evaluation draws
            none.
        temperature: Divides the cosines of patches.
        score_temperature: Divides the cosines of class tokens.
        learn_temperature: Whether both are trained.
        sigma: Standard deviation in pixels of the blur of the final map; 0 for none.
        smooth_score: Whether the map's share of the image score is read after that blur.
        map_reduction: Layers' maps are joined by their "mean"; their "sum" counts as often as there are layers in the
            image score, and is their mean too in what is returned.
        score_reduction: What the image's loss sees of the score (see `score_loss`).
        focal_gamma: Focusing exponent of the focal losses (eq. 10).
        dice_smooth: Added to numerator and denominator of the dice losses (eq. 10).
        global_weight: Weight of the image's loss (eq. 11).
        local_weight: Weight of the map's losses (eq. 11).
        kl_weight: Weight of the divergence (eq. 11).
        rec_weight: Weight of the reconstruction (eq. 11).
        balance_weight: Weight of the experts' load balance; 0 as in the paper.
        lr: Adam's learning rate.
        betas: Adam's betas.
        lr_schedule: "constant", or "cosine" after a warm-up of a tenth of the training.
        epochs: Epochs of training, where the trainer's `max_epochs` does not say otherwise.
        precision: "bf16" runs the frozen vision tower in bfloat16; what learns stays in float32.
        cache_features: A folder to keep what the backbone computes in training, so that it is computed in the first
            epoch only (see `FeatureCache`); 11 MB an image at the defaults. None: computed in every epoch.
        cache_dtype: "float16" or "bfloat16", what is kept there.
        image_threshold: The raw image score above which an image is anomalous. None: as fitted to validation data.
        pixel_threshold: The same of the pixels of a map.
        weights: An adapter file, written by `save_weights`. None: to be trained.
        seed: Of initialisation, training and fixed noise.
        post_processor: Ours with other options, anomalib's, or False for none.
        **components: anomalib's pre_processor, evaluator and visualizer.

    Raises:
        ValueError: If an argument does not fit the backbone.
        OSError: If weights can neither be found nor downloaded.

    Example:
        >>> from anomalib.engine import Engine
        >>> from anomalib_zsad import MVTec, VisA, WMoEClip
        >>> Engine().train(WMoEClip(), datamodule=VisA(root="./datasets/visa", target=MVTec()))  # doctest: +SKIP
    """

    paper_batch_size = 32
    model: WMoEClipModel
    loss: WMoEClipLoss

    @arg.checked
    def __init__(
        self,
        backbone: arg.Text = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: arg.ImageSize | None = None,
        feature_layers: arg.Layers | None = None,
        use_ctds: bool = True,
        use_wcma: bool = True,
        use_samoe: bool = True,
        states: arg.TextPair = ("a photo of a good", "a photo of a damaged"),
        prompt_length: arg.Count = 2,
        prompt_scale: arg.Weight = 1.0,
        prompt_latent: Latent = "decoded",
        cls_scale: TokenScale = "raw",
        vae_hidden: arg.Width = 512,
        inference_sampling: InferenceSampling = "mean",
        patch_projection: Projection = "linear",
        patch_projection_init: ProjectionInit = "clip",
        patch_ln_post: bool = True,
        wavelet_kind: wavelet.Kind = "dwt",
        wavelet_return: wavelet.Return = "idwt",
        wavelet_pad: wavelet.Pad = "symmetric",
        wcma_shared: bool = True,
        wcma_heads: arg.Count = 1,
        wcma_residual: bool = False,
        gate_reduction: arg.Count = 1,
        gate_bn: bool = False,
        map_features: MapFeatures = "patch",
        moe_adapter: ContextAdapter = "split",
        n_experts: arg.Count = 8,
        top_k: arg.Count = 2,
        expert_hidden: arg.Width = 192,
        gate_noise: bool = False,
        temperature: arg.Temperature = 0.07,
        score_temperature: arg.Temperature = 0.07,
        learn_temperature: bool = False,
        sigma: arg.Sigma = 8.0,
        smooth_score: bool = False,
        map_reduction: MapReduction = "mean",
        score_reduction: ScoreReduction = "half",
        focal_gamma: arg.Exponent = 2.0,
        dice_smooth: arg.Positive = 1.0,
        global_weight: arg.Weight = 1.0,
        local_weight: arg.Weight = 1.0,
        kl_weight: arg.Weight = 1.0,
        rec_weight: arg.Weight = 1.0,
        balance_weight: arg.Weight = 0.0,
        lr: arg.Rate = 2e-4,
        betas: arg.Betas = (0.5, 0.999),
        lr_schedule: Schedule = "constant",
        epochs: arg.Epochs = 20,
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
            given.backbone, given.pretrained, given.image_size, "quick_gelu", position_resize="bicubic_antialias"
        )
        layers = clip.check_layers(clip.quarters() if given.feature_layers is None else given.feature_layers)
        width = clip.joint_width
        _check_widths(clip, given.use_ctds, given.wcma_heads, given.gate_reduction)
        if given.map_features == "frequency" and not given.use_wcma:
            msg = 'map_features="frequency" needs use_wcma=True, which makes those features, got use_wcma=False'
            raise ValueError(msg)

        def attention() -> WaveletCrossAttention:
            bands = wavelet.HaarBands(given.wavelet_kind, given.wavelet_return, given.wavelet_pad)
            return WaveletCrossAttention(
                width, given.wcma_heads, given.gate_reduction, given.wcma_residual, bands, given.gate_bn
            )

        def experts() -> SemanticExperts:
            context = LayerContext(width, len(layers), given.moe_adapter)
            return SemanticExperts(width, context, given.n_experts, given.top_k, given.expert_hidden, given.gate_noise)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given.seed)
            self.model = WMoEClipModel(
                clip,
                ClassTokenSampler(width, given.vae_hidden) if given.use_ctds else None,
                SampledPrompts(clip, given.states, given.prompt_length, given.prompt_scale),
                PatchProjections(
                    clip, len(layers), given.patch_projection, given.patch_projection_init, given.patch_ln_post
                ),
                [attention() for _ in (layers[:1] if given.wcma_shared else layers)] if given.use_wcma else None,
                experts() if given.use_samoe else None,
                layers=layers,
                cls_scale=given.cls_scale,
                prompt_latent=given.prompt_latent,
                inference_sampling=given.inference_sampling,
                map_features=given.map_features,
                map_reduction=given.map_reduction,
                temperature=given.temperature,
                score_temperature=given.score_temperature,
                learn_temperature=given.learn_temperature,
                sigma=given.sigma,
                smooth_score=given.smooth_score,
                precision=given.precision,
                seed=given.seed,
            )
        self.loss = WMoEClipLoss(
            given.global_weight,
            given.local_weight,
            given.kl_weight,
            given.rec_weight,
            given.balance_weight,
            given.focal_gamma,
            given.dice_smooth,
            given.score_reduction,
            given.map_reduction,
        )
        self.lr = given.lr
        self.betas = given.betas
        self.lr_schedule = given.lr_schedule
        self._seen: list[diagnostics.Seen] = []

    def predict_batch(self, batch: Any) -> InferenceBatch:
        """Score a batch; what "monte_carlo" draws depends on the image, not on its batch."""
        if self.model.inference_sampling != "monte_carlo":
            return self.model(batch.image)
        noise, _ = self.model.draw(generators_of(batch, "evaluation", self.hparams["seed"], 0))
        return self.model.score(self.model.logits(batch.image, noise), (batch.image.shape[-2], batch.image.shape[-1]))

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses, eq. 11."""
        size = (batch.image.shape[-2], batch.image.shape[-1])
        noise = self.model.draw(self._generators_of(batch))
        logits = self.model.compare(self.model.encode(batch.image), self.model.clip.grid_of(*size), *noise)
        maps = self.model.layer_maps(logits, size)
        if trainer_of(self) is not None and self.training:
            found = {f"train_{name}": value for name, value in diagnostics.of_step(logits).items()}
            self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(batch.image), sync_dist=True)
            # Processes are together in a step, not in the hooks at the end of an epoch: there the progress bar of the
            # first one alone may be waiting for the others.
            self._seen += known_to_processes(diagnostics.seen_in(logits, maps, batch.gt_label).on_cpu())
        return self.loss(logits, maps, batch.gt_label, batch.gt_mask)

    def on_train_epoch_start(self) -> None:
        """Forget the images of an epoch that did not come to its end."""
        self._seen = []

    def on_train_epoch_end(self) -> None:
        """Log what only all images together show, those of every process."""
        found = diagnostics.of_epoch(self._seen) if self._seen else {}
        self.log_dict({f"train_{name}": value for name, value in found.items()})
        self._seen = []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Train everything but CLIP with Adam."""
        optimizer = Adam([p for p in self.parameters() if p.requires_grad], lr=self.lr, betas=self.betas)
        if self.lr_schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, partial(_cosine, steps=steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _generators_of(self, batch: Any) -> list[Generator | None]:
        if trainer_of(self) is None:  # a loop of the user's own, whose epochs are unknown
            return [None] * len(batch.image)
        return generators_of(batch, "noise", self.hparams["seed"], self.current_epoch)

    def check_exportable(self) -> None:
        """Refuse to export what was not trained, and what draws random numbers."""
        super().check_exportable()
        if self.model.inference_sampling == "monte_carlo" and self.model.sampler is not None:
            msg = (
                'inference_sampling="monte_carlo" draws new numbers for every image, which no exported graph does: '
                'expected "mean" or "fixed"'
            )
            raise ValueError(msg)


def _cosine(step: int, steps: int) -> float:
    """Give the factor on the learning rate: a linear rise, then half a cosine down to 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def _check_widths(clip: FrozenClip, use_ctds: bool, heads: int, reduction: int) -> None:
    width = clip.joint_width
    if use_ctds and clip.text_width != width:
        msg = (
            f"use_ctds=True needs a backbone whose text tower is as wide as the joint space, {width}, "
            f"got {clip.text_width}"
        )
        raise ValueError(msg)
    for name, divisor in (("wcma_heads", heads), ("gate_reduction", reduction)):
        if divisor < 1 or width % divisor:
            msg = f"{name} must divide the joint width {width} of this backbone, got {divisor}"
            raise ValueError(msg)
