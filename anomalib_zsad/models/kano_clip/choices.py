"""The settings that the paper of KAnoCLIP leaves open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from anomalib_zsad import arguments as arg
from anomalib_zsad.clip.blocks import Activation
from anomalib_zsad.functional.losses import ScoreReduction


@dataclass(frozen=True)
class KAnoChoices(arg.Choices):
    """Settings that the paper of KAnoCLIP leaves open (arXiv 2501.03786).

    Args:
        activation: "quick_gelu" for OpenAI's weights as they were trained, or "gelu".
        text_ensemble: The prompts of a state's adjectives are averaged as the encoder's outputs ("mean_raw"), the
            vector that the knowledge constrains, or as unit vectors ("mean_normalized").
        deep_prompt_depth: Text blocks after the first one with learnable tokens in place of those after the start
            token, as in AnomalyCLIP; 0 for none.
        deep_prompt_length: Number of these tokens in each block; at most `prompt_length`.
        vv_start_layer: The first block with V-V attention. None: the last of the first quarter (6 at ViT-L).
        vv_ffn: Whether the V-V stream goes through the feed-forward part of the blocks.
        cls_source: The global feature: the class token of CLIP's "original" stream, or of the "vv" stream.
        cls_ln_post: Whether CLIP's last layer norm comes before the projection of the class token.
        patch_projection: Projection of patches to the joint space: CLIP's own ("clip"), or a learnt "linear" one for
            each stage.
        bica_dim: Width of the attentions of Bi-CMCI.
        bica_heads: Attention heads of Bi-CMCI.
        bica_residual_init: Initial residual scale of these attentions, learnt for each channel.
        bica_order: Self-attention before cross-attention ("self_first"), or after it ("cross_first").
        bica_cross: Patches attend to the text before ("parallel") or after ("sequential") its cross-attention to
            patches.
        bica_ffn: Add feed-forward layers of four times the width after the attentions, as in the feature enhancer of
            GroundingDINO (arXiv 2303.05499).
        deform_attention: "dat" is deformable attention of patches to sampled points (arXiv 2201.00520), "none" is none.
        deform_kernel: Side in patches of the convolution that predicts offsets, odd.
        deform_stride: Distance in patches between the sampled points.
        deform_groups: Groups of channels, each with its own sampling points.
        conv_adapter: The Conv-Adapter's projection to its inner width (eq. 11): a depthwise convolution and a pointwise
            one ("dwsep"), a single grouped one with a learnt scale (arXiv 2208.07463, "conv_adapter"), or a "linear"
            map without a kernel.
        bottleneck: Inner width of the Conv-Adapter.
        conv_kernel: Side of its spatial convolution in patches, odd.
        conv_adapter_context: Whether its input includes the map of patches, not the class token alone.
        conv_adapter_residual: Weight of the unchanged global feature that is added. If it is not 0, W_up is initialised
            with zeros, so that training starts with CLIP's own feature.
        temperature: Divides the cosines of patches (tau).
        score_temperature: Divides the cosines of the global feature.
        stage_reduction: The "sum" (eq. 9) or "mean" of the stages' logits.
        map_norm: A "softmax" over both states, or min-max normalisation of each map of each image ("minmax"), where
            every abnormal map reaches 1, so that its maximum carries no information.
        upsample_align_corners: Upsample maps with `align_corners=True`.
        smooth_in_training: Train with the maximum of the blurred map, as in scoring.
        score_reduction: The part of the score that the image's loss uses (see `score_loss`).
        focal_gamma: Focusing exponent of the focal loss (eq. 15).
        local_loss_on: The map's losses of the "aggregate" of all stages, or their sum "per_stage".
        kd_margin: Margin by which the abnormal prompts are to be nearer to the knowledge than the normal ones (eq. 2).
        kd_scope: "class" pulls the prompts of each class in a batch to all descriptions of the class and its images;
            "global" the mean of their prompts to the mean of their descriptions; "image" those of each image to the
            descriptions of its class and its own.
        kd_weighting: Equal weights for all descriptions (eq. 3, "count"), or weights of one half for those of the class
            and for those of its images ("balanced").
        betas: Adam's betas.

    Raises:
        ValueError: If a field is of another type or out of its range.
    """

    removed: ClassVar[Mapping[str, object]] = {
        "position_resize": "bicubic_antialias",
        "prompt_suffix": ".",
        "bica_shared": False,
        "deform_offset_range": 2.0,
        "dice_smooth": 1.0,
    }

    activation: Activation = "quick_gelu"
    text_ensemble: Literal["mean_raw", "mean_normalized"] = "mean_raw"
    deep_prompt_depth: arg.CountOrNone = 0
    deep_prompt_length: arg.Count = 4
    vv_start_layer: arg.Count | None = None
    vv_ffn: bool = False
    cls_source: Literal["original", "vv"] = "original"
    cls_ln_post: bool = True
    patch_projection: Literal["clip", "linear"] = "clip"
    bica_dim: arg.Width = 256
    bica_heads: arg.Count = 8
    bica_residual_init: arg.Weight = 0.1
    bica_order: Literal["self_first", "cross_first"] = "self_first"
    bica_cross: Literal["parallel", "sequential"] = "parallel"
    bica_ffn: bool = False
    deform_attention: Literal["dat", "none"] = "dat"
    deform_kernel: arg.OddSide = 7
    deform_stride: arg.Side = 4
    deform_groups: arg.Count = 4
    conv_adapter: Literal["dwsep", "conv_adapter", "linear"] = "dwsep"
    bottleneck: arg.Width = 192
    conv_kernel: arg.OddSide = 3
    conv_adapter_context: bool = True
    conv_adapter_residual: arg.Weight = 0.0
    temperature: arg.Temperature = 0.07
    score_temperature: arg.Temperature = 0.07
    stage_reduction: Literal["sum", "mean"] = "sum"
    map_norm: Literal["softmax", "minmax"] = "softmax"
    upsample_align_corners: bool = False
    smooth_in_training: bool = True
    score_reduction: ScoreReduction = "half"
    focal_gamma: arg.Exponent = 2.0
    local_loss_on: Literal["aggregate", "per_stage"] = "aggregate"
    kd_margin: Annotated[float, arg.Range(ge=-2, le=2)] = 0.0
    kd_scope: Literal["class", "global", "image"] = "class"
    kd_weighting: Literal["count", "balanced"] = "count"
    betas: arg.Betas = (0.5, 0.999)
