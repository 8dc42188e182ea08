"""Detectors that know nothing but statistics of pixels. A dataset worth testing on defeats them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter


def features(
    image: np.ndarray,  # (H, W, 3) uint8
) -> np.ndarray:  # (H, W, 8)
    """Colour, gradient, and contrast with the surroundings near and far."""
    colour = image.astype(np.float32) / 255
    grey = colour.mean(-1)
    down, right = np.gradient(grey)
    near, far = (_blurred(image, radius) for radius in (2, 8))
    return np.dstack(
        [
            colour,
            np.hypot(down, right),
            np.abs(colour - near).max(-1),
            np.abs(colour - far).max(-1),
            np.abs(near - far).max(-1),
            np.abs(_blurred(image, 1).mean(-1) - grey),
        ]
    )


def own_deviation(
    values: np.ndarray,  # (H, W, 8): features
) -> np.ndarray:  # (H, W)
    """How unusual every pixel is among those of its own picture: Mahalanobis distance."""
    flat = values.reshape(-1, values.shape[-1])
    return _distance(flat, flat).reshape(values.shape[:2])


def contrast(
    image: np.ndarray,  # (H, W, 3) uint8
) -> np.ndarray:  # (H, W)
    """How much the smoothed colour stands out from its surroundings."""
    return np.abs(_blurred(image, 2) - _blurred(image, 12)).max(-1)


def rare_colour(
    image: np.ndarray,  # (H, W, 3) uint8
) -> np.ndarray:  # (H, W)
    """How rare the colour of every pixel is in its own picture."""
    bins = (np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(1))) // 24).astype(int)
    index = (bins[..., 0] * 11 + bins[..., 1]) * 11 + bins[..., 2]
    counts = np.bincount(index.ravel(), minlength=11**3)
    return -np.log(counts[index])


def deviation_from_normal(
    values: Sequence[np.ndarray],  # each (H, W, 8): features
    normal: Sequence[np.ndarray],  # each (H, W, 8): features
) -> list[np.ndarray]:  # each (H, W)
    """How unusual every pixel is among those of normal pictures of its category."""
    known = np.concatenate([each[::4, ::4].reshape(-1, 8) for each in normal])
    return [_distance(each.reshape(-1, 8), known).reshape(each.shape[:2]) for each in values]


def global_statistics(
    values: np.ndarray,  # (H, W, 8): features
) -> np.ndarray:  # (K,)
    """Means, deviations and high percentiles of the features of a whole picture."""
    flat = values.reshape(-1, 8)
    return np.concatenate([flat.mean(0), flat.std(0), np.percentile(flat[:, 3:], (99, 99.9), axis=0).ravel()])


def distance_from_normal(
    values: Sequence[np.ndarray],  # each (H, W, 8): features
    normal: Sequence[np.ndarray],  # each (H, W, 8): features
) -> list[float]:
    """How far the statistics of whole pictures are from those of normal pictures, in standard deviations."""
    known = np.stack([global_statistics(each) for each in normal])
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    return [float(np.sqrt((((global_statistics(each) - mean) / deviation) ** 2).mean())) for each in values]


def _distance(
    values: np.ndarray,  # (N, K)
    known: np.ndarray,  # (M, K)
) -> np.ndarray:  # (N,)
    mean = known.mean(0)
    inverse = np.linalg.inv(np.cov(known.T) + 1e-6 * np.eye(known.shape[1]))
    away = values - mean
    return ((away @ inverse) * away).sum(1)


def _blurred(
    image: np.ndarray,  # (H, W, 3) uint8
    radius: int,
) -> np.ndarray:  # (H, W, 3)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))).astype(np.float32) / 255
