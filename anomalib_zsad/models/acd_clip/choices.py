"""The settings that the paper of ACD-CLIP leaves open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from anomalib_zsad import arguments as arg
from anomalib_zsad.clip.blocks import Activation


@dataclass(frozen=True)
class ACDChoices(arg.Choices):
    """Settings that the paper of ACD-CLIP leaves open; the defaults are those of its released implementation.

    Args:
        activation: "gelu" as the published adapters were trained, or "quick_gelu" as OpenAI's weights were.
        rank: Rank of all adapters.
        conv_rank: Channels between the convolutions of a branch.
        alpha: Scale of the adapters.
        mix: Initial weight of adapted tokens in the streams.
        head_width: Hidden width of the segmentation and detection heads.
        gate_width: Hidden width of the fusion gates.
        class_weight: Weight of the class probability in the image score, the rest is that of the map's maximum.
            None: 0.9 in the industrial domain, 0.5 in the medical one.
        blur_size: Side of the Gaussian window over the logit maps in patches, odd; 1 for no blur. None: 7 in the
            industrial domain, 9 in the medical one, and 1 in the variant "paper".
        blur_sigma: Its standard deviation in patches. None: 1 in the industrial domain, 1.5 in the medical one.
        focal_gamma: Focusing exponent of the focal loss (eq. 7).
        augmentation: Augment the training images (see `TrainingAugmentation`), unless the datamodule does.
        lr_decay: Factor on both learning rates after every epoch.
        betas: Adam's betas.
        mix_clip: Largest norm of the gradient of each mixing vector.

    Raises:
        ValueError: If a field is of another type or out of its range.
    """

    removed: ClassVar[Mapping[str, object]] = {"dice_smooth": 1.0}

    activation: Activation = "gelu"
    rank: arg.Count = 16
    conv_rank: arg.Count = 8
    alpha: arg.Weight = 2.0
    mix: arg.ShareBelowOne = 0.2
    head_width: arg.Width = 256
    gate_width: arg.Width = 256
    class_weight: arg.Share | None = None
    blur_size: arg.OddSide | None = None
    blur_sigma: arg.PositiveSigma | None = None
    focal_gamma: arg.Exponent = 2.0
    augmentation: bool = True
    lr_decay: arg.Rate = 0.9
    betas: arg.Betas = (0.9, 0.999)
    mix_clip: arg.Positive = 1.0
