"""Learnt position embeddings at another size of the grid of patches."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PositionResize = Literal["bilinear", "bicubic_antialias"]


def resize_grid(
    embedding: Tensor,  # (P + N', C)
    trained: tuple[int, int],
    grid: tuple[int, int],
    prefix: int,
    how: PositionResize,
) -> Tensor:  # (P + N, C)
    """Resize position embeddings of patches, with align_corners=False.

    Args:
        embedding: As it was trained.
        trained: Rows and columns of its patches.
        grid: Those of the result.
        prefix: P, the leading embeddings that belong to no patch.
        how: "bilinear" (no antialias) or "bicubic_antialias".
    """
    if tuple(trained) == grid:
        return embedding
    patches = embedding[prefix:].T.reshape(1, -1, *trained)
    mode = "bilinear" if how == "bilinear" else "bicubic"
    antialias = how == "bicubic_antialias"
    patches = F.interpolate(patches, size=grid, mode=mode, align_corners=False, antialias=antialias)
    return torch.cat([embedding[:prefix], patches[0].flatten(1).T])
