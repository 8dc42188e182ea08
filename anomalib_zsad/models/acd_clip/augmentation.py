"""Training augmentations of ACD-CLIP: noise and colour of the raw image, then geometry with the mask."""

from typing import Any

import torch
from anomalib.data import AnomalibDataModule
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import (
    ColorJitter,
    Compose,
    InterpolationMode,
    RandomAffine,
    RandomApply,
    RandomHorizontalFlip,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    Transform,
)

from anomalib_zsad.clip.named import CLIP_LOOK


class TrainingAugmentation(Compose):
    """Augments an image in [0, 1] and its mask.

    It is applied before the pre-processing normalises images, so it resizes them itself. Pixels from outside the image
    are filled with CLIP's mean colour, which normalisation maps to 0; those of the mask with 0.

    Args:
        image_size: Height and width in pixels, those of the model.
        noise: Probability of sparse noise.
        jitter: Largest relative change of brightness, contrast and saturation.
        jitter_probability: Probability of each of these.
        rotation: Largest angle in degrees.
        translation: Largest shift as a share of the side.
        geometry_probability: Probability of the rotation, of the shift and of each flip.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 518,
        noise: float = 0.3,
        jitter: float = 0.5,
        jitter_probability: float = 0.7,
        rotation: float = 30.0,
        translation: float = 0.15,
        geometry_probability: float = 0.5,
    ) -> None:
        size = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
        outside: dict[Any, Any] = {tv_tensors.Image: list(CLIP_LOOK.mean), "others": 0}
        jitters = [ColorJitter(brightness=jitter), ColorJitter(contrast=jitter), ColorJitter(saturation=jitter)]
        moves = [
            RandomRotation(rotation, fill=outside),
            RandomAffine(0, translate=(translation, translation), fill=outside),
        ]
        super().__init__(
            [
                SparseNoise(noise),
                *(RandomApply([each], jitter_probability) for each in jitters),
                Resize(size, interpolation=InterpolationMode.BICUBIC, antialias=True),
                *(RandomApply([each], geometry_probability) for each in moves),
                RandomHorizontalFlip(geometry_probability),
                RandomVerticalFlip(geometry_probability),
            ],
        )


class SparseNoise(Transform):
    """Multiplies few pixels of an image in [0, 1] by noise, where a standard normal exceeds a threshold.

    Args:
        probability: Probability of noise in an image.
        std: Standard deviation of the noise.
        threshold: 3 chooses one pixel in 740.
    """

    def __init__(self, probability: float = 0.3, std: float = 1.0, threshold: float = 3.0) -> None:
        super().__init__()
        self.probability = probability
        self.std = std
        self.threshold = threshold

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw once whether an image and its mask get noise."""
        return {"is_noisy": bool(torch.rand(()) < self.probability)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Add the noise to images, not to masks."""
        if not params["is_noisy"] or not isinstance(inpt, Tensor) or isinstance(inpt, tv_tensors.Mask):
            return inpt
        is_hit = torch.randn_like(inpt[..., :1, :, :]) > self.threshold
        noisy = (torch.randn_like(inpt) * self.std * inpt).clamp(0, 1)
        return tv_tensors.wrap(torch.where(is_hit, noisy, inpt), like=inpt)


def augment(datamodule: AnomalibDataModule | None, image_size: int | tuple[int, int], seed: int) -> None:
    """Set the training augmentations of a datamodule, unless it has its own.

    Args:
        datamodule: The trainer's; None where it has none.
        image_size: Height and width in pixels, those of the model.
        seed: Seed of the training, which determines the augmentation together with the epoch and the image.
    """
    dataset = getattr(datamodule, "train_data", None)
    if dataset is not None and getattr(datamodule, "train_augmentations", None) is None:
        dataset.augmentations = TrainingAugmentation(image_size)
        dataset.seed = seed
