"""Masks that are resized with interpolation, for training targets."""

from typing import Any, ClassVar

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import register_kernel, resize


class SoftMask(tv_tensors.Mask):
    """The degree of anomaly of each pixel, from 0 to 1.

    Resizing is bicubic with antialias, clamped to [0, 1]; other transforms treat it as a mask.
    """

    interpolation: ClassVar[InterpolationMode] = InterpolationMode.BICUBIC

    @classmethod
    def of(
        cls,
        mask: Tensor,  # (..., H, W) nonzero where anomalous
    ) -> "SoftMask":
        """Convert a binary mask."""
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
