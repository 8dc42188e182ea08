"""Masks that are resized as images are, for training targets that the nearest pixel is too coarse for."""

from typing import Any, ClassVar

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import register_kernel, resize


class SoftMask(tv_tensors.Mask):
    """How anomalous each pixel is, from 0 to 1.

    Resizing is bicubic with antialias and keeps to [0, 1]; every other transform takes it for a mask.
    """

    interpolation: ClassVar[InterpolationMode] = InterpolationMode.BICUBIC

    @classmethod
    def of(
        cls,
        mask: Tensor,  # (..., H, W) nonzero where anomalous
    ) -> "SoftMask":
        """Start from a mask of whole pixels."""
        return cls((mask.as_subclass(Tensor) != 0).float())


class BilinearMask(SoftMask):
    """The same, resized bilinear with antialias."""

    interpolation = InterpolationMode.BILINEAR


def _resize(
    mask: SoftMask,  # (..., h, w)
    size: list[int] | None,
    interpolation: Any = None,  # noqa: ARG001  # that of images, whatever it is
    max_size: int | None = None,
    antialias: Any = True,  # noqa: ARG001  # likewise
) -> SoftMask:  # (..., H, W)
    values = mask.as_subclass(Tensor)[None]
    values = resize(values, size, mask.interpolation, max_size=max_size, antialias=True)
    return type(mask)(values[0].clamp(0, 1))


for _kind in (SoftMask, BilinearMask):
    register_kernel(functional=resize, tv_tensor_cls=_kind)(_resize)
