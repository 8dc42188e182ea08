"""The settings that the paper of WMoE-CLIP leaves open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from anomalib_zsad import arguments as arg
from anomalib_zsad.functional.losses import ScoreReduction


@dataclass(frozen=True)
class WMoEChoices(arg.Choices):
    """Settings that the paper of WMoE-CLIP leaves open (arXiv 2603.06313).

    Args:
        prompt_scale: Scale of the prompts' vectors relative to word embeddings.
        prompt_latent: The prompts' vectors are "decoded" samples, or "latent" ones.
        cls_scale: Length of the class token: "raw" as CLIP gives it, "unit" 1, "sqrt_dim" the square root of its width.
        vae_hidden: Width of the hidden layers of the autoencoder (eq. 1).
        inference_sampling: Sampling outside of training: the "mean", "fixed" noise for all images, or new noise for
            every image ("monte_carlo", which cannot be exported).
        patch_projection: "linear" trains a projection of patches for each layer, "clip" is CLIP's own.
        patch_projection_init: Trained projections start as CLIP's own ("clip"), or by "xavier".
        patch_ln_post: Whether CLIP's last layer norm comes before them.
        wavelet_kind: "dwt" decimates, "swt" filters at every position, with half the filters.
        wavelet_return: Upsampling of decimated bands to the grid: "idwt", their inverse transforms; their coefficients
            interpolated, "bilinear" or "nearest"; or "none" for the grid of half the size.
        wcma_shared: One attention for all layers, or one for each.
        wcma_heads: Heads of the attention (eq. 7).
        wcma_residual: Whether the attention has a residual connection.
        gate_reduction: Divides the inner width of the gate (eq. 5).
        gate_bn: Batch normalisation in both branches of the gate, as MS-CAM has it. One attention for all layers has
            the same running statistics for all of them, and every process of a training those of its own batches
            unless the trainer's `sync_batchnorm` joins them.
        map_features: Text is compared with the "patch" features F_I, or the "frequency"-enhanced ones F_p.
        moe_adapter: The context of the experts: a linear map for each layer to a share of it ("split"), or one map of
            their "concat".
        expert_hidden: Width of the hidden layer of each expert.
        gate_noise: Add noise of a learnt scale to the router in training, as in Shazeer et al. 2017; none in
            evaluation.
        balance_weight: Weight of the experts' load balance, which is not in the paper.
        temperature: Divides the cosines of patches.
        score_temperature: Divides the cosines of class tokens.
        learn_temperature: Whether both are trained.
        smooth_score: Whether the map's maximum in the image score is that of the blurred map.
        map_reduction: The layers' maps are reduced by their "mean", or by their "sum", which has the weight of all
            layers in the image score; the returned map is the mean in either case.
        score_reduction: The part of the score that the image's loss uses (see `score_loss`).
        focal_gamma: Focusing exponent of the focal losses (eq. 10).
        betas: Adam's betas.
        lr_schedule: "constant", or "cosine" after a warm-up of a tenth of the training.

    Raises:
        ValueError: If a field is of another type or out of its range.
    """

    removed: ClassVar[Mapping[str, object]] = {"wavelet_pad": "symmetric", "dice_smooth": 1.0}

    prompt_scale: arg.Weight = 1.0
    prompt_latent: Literal["decoded", "latent"] = "decoded"
    cls_scale: Literal["raw", "unit", "sqrt_dim"] = "raw"
    vae_hidden: arg.Width = 512
    inference_sampling: Literal["mean", "fixed", "monte_carlo"] = "mean"
    patch_projection: Literal["linear", "clip"] = "linear"
    patch_projection_init: Literal["clip", "xavier"] = "clip"
    patch_ln_post: bool = True
    wavelet_kind: Literal["dwt", "swt"] = "dwt"
    wavelet_return: Literal["idwt", "bilinear", "nearest", "none"] = "idwt"
    wcma_shared: bool = True
    wcma_heads: arg.Count = 1
    wcma_residual: bool = False
    gate_reduction: arg.Count = 1
    gate_bn: bool = False
    map_features: Literal["patch", "frequency"] = "patch"
    moe_adapter: Literal["split", "concat"] = "split"
    expert_hidden: arg.Width = 192
    gate_noise: bool = False
    balance_weight: arg.Weight = 0.0
    temperature: arg.Temperature = 0.07
    score_temperature: arg.Temperature = 0.07
    learn_temperature: bool = False
    smooth_score: bool = False
    map_reduction: Literal["mean", "sum"] = "mean"
    score_reduction: ScoreReduction = "half"
    focal_gamma: arg.Exponent = 2.0
    betas: arg.Betas = (0.5, 0.999)
    lr_schedule: Literal["constant", "cosine"] = "constant"
