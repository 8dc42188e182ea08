"""From tokens to similarities, maps and scores: pure functions of tensors."""

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import correlate1d, gaussian_filter1d
from torch import Tensor
from torch.nn import functional as F


def cosines(
    tokens: Tensor,  # (B, N, D)
    text: Tensor,  # (B or 1, S, D)
) -> Tensor:  # (B, N, S)
    """Compare every token with every text, without a normalised copy of the tokens."""
    along = tokens @ F.normalize(text, dim=-1).transpose(1, 2)
    return along / torch.linalg.vector_norm(tokens, dim=-1, keepdim=True).clamp(min=1e-12)


def log_odds(
    logits: Tensor,  # (..., S) of the normal and the anomalous state
) -> Tensor:  # (...)
    """Compute the log-odds of the anomalous state; the softmax over two states is their sigmoid."""
    return logits[..., 1] - logits[..., 0]


def probability(
    logits: Tensor,  # (..., S) of the normal and the anomalous state
) -> Tensor:  # (...) in [0, 1]
    """Compute the probability of the anomalous state."""
    return logits.softmax(-1)[..., 1]


def entropy(
    probabilities: Tensor,  # (..., n), which sum to 1
) -> Tensor:  # (...)
    """Compute the entropy in nats: log n where all are alike, 0 where one is 1."""
    return torch.special.entr(probabilities).sum(-1)


def size_of(
    images: Tensor,  # (..., H, W)
) -> tuple[int, int]:
    """Return the height and the width of images in pixels."""
    return images.shape[-2], images.shape[-1]


@torch.compiler.allow_in_graph  # its matrices are constants there
def smooth_upsample(
    maps: Tensor,  # (B, gh, gw)
    size: tuple[int, int],
    sigma: float,
    align_corners: bool = False,
) -> Tensor:  # (B, H, W)
    """Bring maps to image size: bilinear, then a Gaussian blur.

    Both steps are linear and separable, so each axis is one fixed matrix: 37 x 37 values become 518 x 518 in two small
    products, exactly, on every device and in every exported graph.

    Args:
        maps: Maps at patch resolution.
        size: Height and width of the result in pixels.
        sigma: Standard deviation of the blur in pixels, as `scipy.ndimage.gaussian_filter` defines it (mirror padding
            that repeats the edge, cut at 4 sigma); 0 for none.
        align_corners: As `torch.nn.functional.interpolate` defines it.
    """
    sides = zip(maps.shape[-2:], size, strict=True)
    rows, columns = (
        torch.tensor(_smooth_matrix(n, m, sigma, align_corners)).to(maps, non_blocking=True) for n, m in sides
    )
    return rows @ maps @ columns.T


@torch.compiler.allow_in_graph
def blur_then_upsample(
    maps: Tensor,  # (..., gh, gw)
    size: tuple[int, int],
    blur_size: int = 1,
    blur_sigma: float = 1.0,
) -> Tensor:  # (..., H, W)
    """Blur maps at patch resolution, then bring them to image size: bilinear, align_corners=True.

    As in `smooth_upsample` each axis is one fixed matrix.

    Args:
        maps: Maps at patch resolution.
        size: Height and width of the result in pixels.
        blur_size: Side of the Gaussian window in patches, odd; 1 for no blur. Borders are mirrored without repeating
            the edge.
        blur_sigma: Standard deviation of the window in patches.
    """
    sides = zip(maps.shape[-2:], size, strict=True)
    rows, columns = (
        torch.tensor(_blur_matrix(n, m, blur_size, blur_sigma)).to(maps, non_blocking=True) for n, m in sides
    )
    return rows @ maps @ columns.T


# Matrices are computed without torch: neither its modes nor a graph that is traced change what is kept.


@lru_cache(maxsize=16)
def _smooth_matrix(n: int, size: int, sigma: float, align_corners: bool) -> np.ndarray:  # (size, n) float32
    upsample = _bilinear(n, size, align_corners)
    if sigma < 1 / 8:  # a window of one pixel
        return upsample
    return gaussian_filter1d(upsample.astype(np.float64), sigma, axis=0).astype(np.float32)


@lru_cache(maxsize=16)
def _blur_matrix(n: int, size: int, blur_size: int, blur_sigma: float) -> np.ndarray:  # (size, n) float32
    offset = np.arange(blur_size) - blur_size // 2
    window = np.exp(-(offset**2) / (2 * blur_sigma**2))
    blur = correlate1d(np.eye(n), window / window.sum(), axis=0, mode="mirror")
    position = np.linspace(0, n - 1, size)
    upsample = np.stack([np.interp(position, np.arange(n), unit) for unit in np.eye(n)], axis=1)
    return (upsample @ blur).astype(np.float32)


def _bilinear(n: int, size: int, align_corners: bool) -> np.ndarray:  # (size, n) float32
    """Compute the weights of `torch.nn.functional.interpolate`, to the bit: in float32, with fused products."""
    pixels = np.arange(size, dtype=np.float32)
    if align_corners:
        position = pixels * (np.float32(n - 1) / np.float32(max(size - 1, 1)))
    else:
        fused = np.float64(np.float32(n) / np.float32(size)) * (pixels + np.float64(0.5)) - 0.5
        position = np.maximum(fused.astype(np.float32), np.float32(0))
    first = np.minimum(position.astype(np.int64), n - 1)
    share = np.clip(position - first.astype(np.float32), 0, 1)
    matrix = np.zeros((size, n), dtype=np.float32)
    matrix[np.arange(size), first] = 1 - share
    matrix[np.arange(size), np.minimum(first + 1, n - 1)] += share
    return matrix
