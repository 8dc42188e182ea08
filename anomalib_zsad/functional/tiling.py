"""Overlapping windows over large images, and their maps blended into one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def window_starts(side: int, window: int, stride: int) -> list[int]:
    """Place windows along a side: as few as cover it, spread evenly, the first and the last one flush with its ends.

    Args:
        side: Pixels of the image.
        window: Pixels of a window; no more than those of the image.
        stride: The most pixels from one window to the next; no more than those of a window.

    Returns:
        The first pixel of each window, ascending.
    """
    last = math.ceil((side - window) / stride)
    return [number * (side - window) // last for number in range(last + 1)] if last else [0]


def window_shares(starts: Sequence[int], window: int, side: int) -> Tensor:  # (n, side) float32
    """Compute the share of each window in every pixel of a side; the shares of a pixel sum to 1.

    A share falls linearly from the middle of its window to the ends, where it is next to nothing, so that blended maps
    have no seams.

    Args:
        starts: As `window_starts` returns them.
        window: Pixels of a window.
        side: Pixels of the image.
    """
    from_end = torch.arange(window, dtype=torch.float64)
    tent = torch.minimum(from_end + 1, window - from_end)
    shares = torch.zeros(len(starts), side, dtype=torch.float64)
    for row, start in zip(shares, starts, strict=True):
        row[start : start + window] = tent
    return (shares / shares.sum(0)).float()


def blend(
    maps: Sequence[Tensor],  # n_rows n_columns, row by row, each (..., h, w)
    rows: Sequence[int],
    columns: Sequence[int],
    size: tuple[int, int],
) -> Tensor:  # (..., H, W)
    """Blend the maps of windows into the map of the image.

    Weights are products of the windows' shares along both sides, so they sum to 1 at every pixel: what is constant
    stays constant, and no value leaves the range of the windows' values there but by rounding.

    Args:
        maps: Of the windows.
        rows: The first row of pixels of each row of windows.
        columns: The first column of pixels of each column of windows.
        size: Height and width of the image in pixels.
    """
    (height, width), (h, w) = size, maps[0].shape[-2:]
    down, across = (window_shares(*each).to(maps[0]) for each in ((rows, h, height), (columns, w, width)))
    strips = []
    for number, (share, top) in enumerate(zip(down, rows, strict=True)):
        row = maps[number * len(columns) : (number + 1) * len(columns)]
        parts = [(part * each[left : left + w], left) for part, each, left in zip(row, across, columns, strict=True)]
        strip = _summed(parts, width)
        strips.append(((strip * share[top : top + h, None]).transpose(-2, -1), top))
    return _summed(strips, height).transpose(-2, -1)


def _summed(parts: Sequence[tuple[Tensor, int]], side: int) -> Tensor:  # (..., side)
    """Add up tensors (..., n), each from a place of the last axis on."""
    total: Tensor | None = None
    for part, start in parts:
        placed = F.pad(part, (start, side - start - part.shape[-1]))
        total = placed if total is None else total + placed
    assert total is not None
    return total
