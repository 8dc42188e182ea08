"""How WMoE-CLIP is built, trained and loaded."""

import math
from functools import partial
from pathlib import Path
from typing import Any

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
from anomalib_zsad.functional.processes import known_to_processes
from anomalib_zsad.functional.scoring import size_of
from anomalib_zsad.functional.seeds import seeded
from anomalib_zsad.models.parts.common_arguments import documented
from anomalib_zsad.models.parts.compiling import Compile
from anomalib_zsad.models.parts.encoder import Encoder, Precision
from anomalib_zsad.models.parts.feature_cache import CacheDtype
from anomalib_zsad.models.parts.mixin import ZeroShotMixin
from anomalib_zsad.models.parts.runtime import Runtime
from anomalib_zsad.models.wmoe_clip import diagnostics
from anomalib_zsad.models.wmoe_clip.adapter import PatchProjections, WaveletCrossAttention
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.experts import LayerContext, SemanticExperts
from anomalib_zsad.models.wmoe_clip.loss import WMoEClipLoss
from anomalib_zsad.models.wmoe_clip.sampler import ClassTokenSampler, SampledPrompts
from anomalib_zsad.models.wmoe_clip.torch_model import WMoEClipModel
from anomalib_zsad.seam.trainers import trainer_of

WARM_UP = 0.1
"""Share of the training during which the cosine schedule's rate rises."""


class WMoEClip(ZeroShotMixin, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """WMoE-CLIP: wavelet-enhanced mixture-of-experts prompt learning (arXiv 2603.06313).

    It is trained once on an auxiliary dataset with normal and anomalous images and masks, and detects anomalies in
    unseen categories. No class name is used: two prompts contain vectors that are sampled for each image from its class
    token (CTDS). Text attends to patches whose high frequencies are gated (WCMA), and a mixture of experts adapts the
    class token (SA-MoE). There is no published implementation: `WMoEChoices` has the settings that the paper leaves
    open.

    Args:
        feature_layers: Vision blocks whose patches are used, counted from 1. None: the last of each quarter
            (6, 12, 18, 24 at ViT-L).
        use_ctds: False for vectors that are the same for all images (table 2 of the paper).
        use_wcma: False for text that is not refined (table 2).
        use_samoe: False for CLIP's own class token (table 2).
        states: The words of the normal and the anomalous prompt, before the vectors (eq. 4).
        prompt_length: Number of vectors of each state, and of samples of each image (m).
        n_experts: Number of experts (N of eq. 8).
        top_k: Number of experts for each image (k of eq. 8).
        sigma: Standard deviation in pixels of the blur of the final map; 0 for none.
        global_weight: Weight of the image's loss (eq. 11).
        local_weight: Weight of the map's losses (eq. 11).
        kl_weight: Weight of the divergence (eq. 11).
        rec_weight: Weight of the reconstruction (eq. 11).
        lr: Adam's learning rate.
        seed: Seed of initialisation, training and fixed noise.
        choices: Settings that the paper leaves open (see `WMoEChoices`).

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
    choices: WMoEChoices

    @documented
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
        n_experts: arg.Count = 8,
        top_k: arg.Count = 2,
        sigma: arg.Sigma = 8.0,
        global_weight: arg.Weight = 1.0,
        local_weight: arg.Weight = 1.0,
        kl_weight: arg.Weight = 1.0,
        rec_weight: arg.Weight = 1.0,
        lr: arg.Rate = 2e-4,
        epochs: arg.OfRun[arg.Epochs] = 20,
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
        choices: WMoEChoices = WMoEChoices(),
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        super().__init__(post_processor=post_processor, **components)
        self.assemble(components)

    def build(self) -> None:
        """Make CTDS, WCMA, SA-MoE, the torch model and the loss."""
        given: Any = self.hparams
        choices = self.choices = WMoEChoices(**given.choices)
        clip = self.load_clip("bicubic_antialias", plain="it starts from the linear projection of a plain CLIP")
        layers = clip.check_layers(given.feature_layers)
        last = [] if clip.n_blocks in layers else [clip.n_blocks]
        width, n_attentions = clip.joint_width, 1 if choices.wcma_shared else len(layers)
        _check_widths(clip, given.use_ctds, choices)
        if choices.map_features == "frequency" and not given.use_wcma:
            msg = 'choices.map_features="frequency" needs use_wcma=True, which makes those features, got use_wcma=False'
            raise ValueError(msg)

        def experts() -> SemanticExperts:
            context = LayerContext(width, len(layers), choices)
            return SemanticExperts(width, context, given.n_experts, given.top_k, choices)

        with seeded(given.seed):
            self.model = WMoEClipModel(
                Encoder(clip, [*layers, *last], given.precision),
                ClassTokenSampler(width, choices) if given.use_ctds else None,
                SampledPrompts(clip, given.states, given.prompt_length, choices),
                PatchProjections(clip, len(layers), choices),
                [WaveletCrossAttention(width, choices) for _ in range(n_attentions)] if given.use_wcma else None,
                experts() if given.use_samoe else None,
                choices,
                n_layers=len(layers),
                sigma=given.sigma,
                seed=given.seed,
            )
        weights = (given.global_weight, given.local_weight, given.kl_weight, given.rec_weight)
        self.loss = WMoEClipLoss(choices, *weights)
        self._seen: list[diagnostics.Seen] = []

    def predict_batch(self, batch: Any) -> InferenceBatch:
        """Score a batch; the noise of "monte_carlo" depends on the image, not on its batch."""
        if self.choices.inference_sampling != "monte_carlo":
            return self.model(batch.image)
        noise, _ = self.model.draw(generators_of(batch, "evaluation", self.hparams["seed"], 0))
        return self.model(batch.image, noise)

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses, eq. 11."""
        noise = self.model.draw(self._generators_of(batch))
        logits = self.model.compare(self.model.encoder(batch.image), self.model.text_features(), *noise)
        maps = self.model.layer_maps(logits, size_of(batch.image))
        if trainer_of(self) is not None and self.training:
            found = {f"train_{name}": value for name, value in diagnostics.of_step(logits).items()}
            self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(batch.image), sync_dist=True)
            # Gathered in the step: at the end of an epoch the progress bar of the first process may wait for others.
            self._seen += known_to_processes(diagnostics.seen_in(logits, maps, batch.gt_label), diagnostics.Seen.on_cpu)
        return self.loss(logits, maps, batch.gt_label, batch.gt_mask)

    def on_train_epoch_start(self) -> None:
        """Clear what an interrupted epoch left."""
        self._seen = []

    def on_train_epoch_end(self) -> None:
        """Log the diagnostics of all images of the epoch, of every process."""
        found = diagnostics.of_epoch(self._seen) if self._seen else {}
        self.log_dict({f"train_{name}": value for name, value in found.items()})
        self._seen = []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Train everything but CLIP with Adam."""
        optimizer = Adam(
            [p for p in self.parameters() if p.requires_grad], lr=self.hparams["lr"], betas=self.choices.betas
        )
        if self.choices.lr_schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, partial(_cosine, steps=steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _generators_of(self, batch: Any) -> list[Generator | None]:
        if trainer_of(self) is None:  # a loop of the user's own, whose epochs are unknown
            return [None] * len(batch.image)
        return generators_of(batch, "noise", self.hparams["seed"], self.current_epoch)

    def check_exportable(self) -> None:
        """Refuse to export an untrained model, and one that draws random numbers."""
        super().check_exportable()
        if self.choices.inference_sampling == "monte_carlo" and self.model.sampler is not None:
            msg = (
                'choices.inference_sampling="monte_carlo" draws new numbers for every image, which no exported graph '
                'does: expected "mean" or "fixed"'
            )
            raise ValueError(msg)


def _cosine(step: int, steps: int) -> float:
    """Return the factor on the learning rate: a linear warm-up, then half a cosine down to 0."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def _check_widths(clip: FrozenClip, use_ctds: bool, choices: WMoEChoices) -> None:
    width = clip.joint_width
    if use_ctds and clip.text_width != width:
        msg = (
            f"use_ctds=True needs a backbone whose text tower is as wide as the joint space, {width}, "
            f"got {clip.text_width}"
        )
        raise ValueError(msg)
    for name, divisor in (("wcma_heads", choices.wcma_heads), ("gate_reduction", choices.gate_reduction)):
        if width % divisor:
            msg = f"choices.{name} must divide the joint width {width} of this backbone, got {divisor}"
            raise ValueError(msg)
