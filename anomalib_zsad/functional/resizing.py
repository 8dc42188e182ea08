"""Resizing with antialias as two matrix products: exact, of any input size, exportable to any graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_A = -0.5
"""The cubic kernel of torch's and PIL's antialiased resizing."""


def resize_bicubic(
    images: Tensor,  # (..., h, w)
    size: tuple[int, int],
) -> Tensor:  # (..., H, W)
    """Resize as `torchvision.transforms.v2.Resize(size, BICUBIC, antialias=True)` does with floating-point images.

    Exporters have no operator with torch's antialias. The operation is linear and separable; its weights depend on the
    two sizes alone, so they are built in the graph where the input size is open, and folded to constants where it is
    fixed.

    Args:
        images: Images of any size.
        size: Height and width of the result in pixels.
    """
    return _resize(images, size, _cubic)


def resize_bilinear(
    images: Tensor,  # (..., h, w)
    size: tuple[int, int],
) -> Tensor:  # (..., H, W)
    """Resize as `torchvision.transforms.v2.Resize(size, BILINEAR, antialias=True)` does, anomalib's default.

    Args:
        images: Images of any size.
        size: Height and width of the result in pixels.
    """
    return _resize(images, size, _triangle)


def _resize(images: Tensor, size: tuple[int, int], kernel: Callable[[Tensor], Tensor]) -> Tensor:
    height, width = images.shape[-2:]
    rows, columns = (_weights(n, m, images, kernel) for n, m in ((height, size[0]), (width, size[1])))
    # In this order: OpenVINO cannot fuse the normalisation that follows into a product with a constant on its right.
    return rows @ (images @ columns.T)


def _weights(n: int, size: int, like: Tensor, kernel: Callable[[Tensor], Tensor]) -> Tensor:  # (size, n)
    # Input pixel j lies ((2j+1) size - (2i+1) n) / (2 max(n, size)) units of the kernel from output pixel i. These are
    # whole numbers up to the division, so no precision of a device can blur the positions.
    given, wanted = (torch.arange(each, device=like.device) * 2 + 1 for each in (n, size))
    distance = (given * size - wanted[:, None] * n).abs()
    longest: Any = torch.sym_max(n, size)
    weights = kernel(distance.to(like.dtype) / (2 * longest))
    return weights / weights.sum(dim=1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)
