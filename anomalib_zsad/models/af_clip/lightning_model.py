"""How AF-CLIP is built, trained and loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomalib.models import AnomalibModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from anomalib_zsad import arguments as arg
from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.clip.embedded import embedded_file
from anomalib_zsad.data.soft_mask import SoftMask
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.seeds import seeded
from anomalib_zsad.models.af_clip.adapter import Adaptor, StatePrompts, WindowAggregation
from anomalib_zsad.models.af_clip.choices import AFChoices
from anomalib_zsad.models.af_clip.few_shot import FewShotMixin
from anomalib_zsad.models.af_clip.loss import AFClipLoss, Variant
from anomalib_zsad.models.af_clip.publication import PUBLICATIONS
from anomalib_zsad.models.af_clip.released import read_released
from anomalib_zsad.models.af_clip.torch_model import AFClipModel
from anomalib_zsad.models.af_clip.tuning import Tuning, tuning_of
from anomalib_zsad.models.parts.adapter_file import Adapter
from anomalib_zsad.models.parts.common_arguments import documented
from anomalib_zsad.models.parts.compiling import Compile
from anomalib_zsad.models.parts.encoder import Encoder, Precision
from anomalib_zsad.models.parts.feature_cache import CacheDtype
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.mixin import ZeroShotMixin
from anomalib_zsad.models.parts.record import new_record
from anomalib_zsad.models.parts.runtime import Runtime
from anomalib_zsad.models.parts.trained_weights import load_trained

_LR, _SMALL_LR = 1e-4, 1e-3
"""Learning rates: of the paper, and over the small CLIP of this package."""


class AFClip(FewShotMixin, ZeroShotMixin, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """AF-CLIP and AF-CLIP+: anomaly detection via anomaly-focused CLIP adaptation (arXiv 2507.19949).

    An adaptor and twelve word vectors are trained once on an auxiliary dataset with normal and anomalous images and
    masks; the result detects anomalies in categories it has never seen. No class name is used. With `k_shot` or
    `reference` it also compares with normal images of the target (AF-CLIP+), and nothing is trained.

    Args:
        feature_layers: Vision blocks whose tokens are used, counted from 1. None: the last of each quarter
            (6, 12, 18, 24 at ViT-L).
        scales: Sides of the aggregation windows in patches, odd (eq. 5-6).
        states: The words of the normal and the anomalous prompt (eq. 8).
        prompt_length: Learnable vectors in front of them; 0 for fixed prompts (table 4, "base").
        adaptor: Whether tokens pass the adaptor (eq. 3-4); False for "base" and V1 of table 4.
        tuning: How the visual side learns (table 5): by the "adaptor", or in its place by a "prompt" of tokens beside
            the patches, a "prefix" in four further blocks as well, or "lora" in the attention of `feature_layers`.
        temperature: Divides every cosine (eq. 9).
        blur_sigma: Standard deviation in pixels of the blur of the final map.
        lambda1: Weight of the map's losses (eq. 15).
        lambda2: Weight of the patch alignment (eq. 15).
        variant: "released" trains with the gradients that the published results were made with, "paper" with those of
            eq. 13 (see `AFClipLoss`).
        lr: Adam's learning rate. None: the 1e-4 of the paper, or over the small CLIP of this package 1e-3, since the
            drawn pictures are few and the adaptor has more to add there.
        k_shot: Normal training images of each target category to remember; 0 for zero-shot.
        reference: A folder or list of normal images to remember instead; with `k_shot`, k of them.
        alpha: Weight of the zero-shot scores beside those of the memory (eq. 18).
        coreset_ratio: The share of the remembered patches to keep, for large k; None keeps all.
        cache_features: A folder to keep what the backbone computes in training, so that it is computed in the first
            epoch only (see `FeatureCache`); 11 MB an image at the defaults. None: computed in every epoch, as it must
            be with another `tuning` than the adaptor.
        weights: An adapter file, written by `anomalib-zsad convert` or `save_weights`; a folder of `save_pretrained`;
            "hf://user/name" or "hf://user/name@revision", a repository on the Hugging Face hub; or "released/visa" or
            "released/mvtec", trained by the authors on this dataset, fetched on first use. None: to be trained.

    Raises:
        ValueError: If an argument does not fit the backbone.
        OSError: If weights can neither be found nor downloaded.

    Example:
        >>> from anomalib.engine import Engine
        >>> from anomalib_zsad import AFClip, MVTec, VisA
        >>> Engine().train(AFClip(), datamodule=VisA(root="./datasets/visa", target=MVTec()))  # doctest: +SKIP
    """

    paper_batch_size = 8
    soft_masks = SoftMask
    published = PUBLICATIONS
    model: AFClipModel
    loss: AFClipLoss

    @documented
    @arg.checked
    def __init__(
        self,
        backbone: arg.Text = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: arg.ImageSize | None = None,
        feature_layers: arg.Layers | None = None,
        scales: arg.OddSides = (1, 3, 5),
        states: arg.TextPair = ("without defect.", "with defect."),
        prompt_length: arg.CountOrNone = 12,
        adaptor: bool = True,
        tuning: Tuning = "adaptor",
        temperature: arg.Temperature = 0.07,
        blur_sigma: arg.Sigma = 4.0,
        lambda1: arg.Weight = 1.0,
        lambda2: arg.Weight = 1.0,
        variant: Variant = "released",
        lr: arg.Rate | None = None,
        epochs: arg.OfRun[arg.Epochs] = 2,
        k_shot: arg.OfRun[arg.ImagesOrNone] = 0,
        reference: arg.OfRun[str | Path | Sequence[str | Path] | None] = None,
        alpha: arg.Weight = 0.1,
        coreset_ratio: arg.ShareInside | None = None,
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
        seed: arg.OfRun[arg.Seed] = 0,
        choices: AFChoices = AFChoices(),
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        super().__init__(post_processor=post_processor, **components)
        self.assemble(components)

    def build(self) -> None:
        """Make the adaptor or another tuning, the prompts, the torch model and the loss."""
        given: Any = self.hparams
        choices = self.choices = AFChoices(**given.choices)
        _check_cacheable(given.tuning, given.cache_features)
        clip = self.load_clip(
            "bilinear",
            plain="" if given.tuning == "adaptor" else f"tuning={given.tuning!r} changes the blocks of a plain CLIP",
            class_token="it scores images by their class tokens after several blocks (eq. 9-10)",
        )
        layers = clip.check_layers(given.feature_layers)
        has_adaptor = given.adaptor and given.tuning == "adaptor"
        with seeded(given.seed):
            attention = Adaptor(clip.vision_width, choices.heads, choices.head_width) if has_adaptor else None
            prompts = StatePrompts(clip, given.states, given.prompt_length)
            tuned = tuning_of(given.tuning, clip, layers)
        self.model = AFClipModel(
            Encoder(clip, layers, given.precision, FrozenClip.encode_patches if tuned is None else tuned.read),
            attention,
            prompts,
            WindowAggregation(given.scales, choices.window_sigma),
            ScoreHead(given.blur_sigma),
            given.temperature,
            given.alpha,
            tuned,
        )
        self.loss = AFClipLoss(choices.focal_gamma, given.lambda1, given.lambda2, given.variant)
        usual = _LR if embedded_file(given.backbone) is None else _SMALL_LR
        self.lr = usual if given.lr is None else given.lr

    @classmethod
    def load_released(cls, prompt: str | Path, adaptor: str | Path, **arguments: Any) -> "AFClip":
        """Build the model with the two files that the authors released for one auxiliary set.

        Args:
            prompt: `{mvtec,visa}_prompt.pt`.
            adaptor: `{mvtec,visa}_adaptor.pt`.
            **arguments: Those of the class.

        Raises:
            ValueError: If a file is not what it should be, asks for more than tensors, or does not fit the backbone.
        """
        model = cls(**arguments)
        adapter = Adapter(read_released(Path(prompt), Path(adaptor)), new_record(cls.__name__))
        load_trained(model, adapter, origin=f"{prompt} and {adaptor}")
        return model

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses, eq. 15."""
        return self.loss(self.model.logits(batch.image), batch.gt_label, self.training_masks(batch))

    def configure_optimizers(self) -> Optimizer:
        """Train the adaptor and the prompt vectors with Adam."""
        return Adam([p for p in self.parameters() if p.requires_grad], lr=self.lr, betas=self.choices.betas)


def _check_cacheable(tuning: Tuning, cache_features: str | Path | None) -> None:
    if tuning != "adaptor" and cache_features is not None:
        msg = (
            f"cache_features keeps what the backbone computes, which tuning={tuning!r} changes with every step: "
            f"expected tuning='adaptor' or no cache, got cache_features={str(cache_features)!r}"
        )
        raise ValueError(msg)
