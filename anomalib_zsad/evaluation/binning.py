"""A monotone binning of scores that is as fine near 0 and near 1 as it is in proportion."""

import torch
from torch import Tensor

_MANTISSA_BITS = 12
_SMALLEST = 2.0**-40


def _bits(value: float) -> int:
    return int(torch.tensor(value).view(torch.int32))


_DROPPED = 23 - _MANTISSA_BITS
_OFFSET = _bits(_SMALLEST)
_HALF = _bits(0.5) - _OFFSET

BINS = (2 * _HALF >> _DROPPED) + 2
"""4096 bins in each octave of the distance to the nearer end of [0, 1]; the first holds 0 alone, the last 1."""


def bin_of(scores: Tensor) -> Tensor:  # any shape, in [0, 1]
    """Number the bin of each score, ascending.

    The bit pattern of a float grows with it, octave by octave. Above one half, where floats lie no closer than
    6e-8, the pattern of the distance to 1 is mirrored, so that saturated maps are resolved as well as dark ones.
    """
    scores = scores.float()
    distance = torch.minimum(scores, 1 - scores)
    code = (distance.contiguous().view(torch.int32) - _OFFSET).clamp(min=0)
    mirrored = torch.where(scores > 0.5, 2 * _HALF - code, code) >> _DROPPED
    return torch.where(scores > 0, mirrored + 1, 0)


def count_scores(
    counts: Tensor,  # (2, BINS): normal, anomalous
    scores: Tensor,  # any shape, in [0, 1]; others go to the first or the last bin
    truth: Tensor,  # the same number of values, true where anomalous
) -> None:
    """Add scores to the counts of their bins. A GPU is not waited for, as it would be in `torch.bincount`."""
    index = bin_of(scores.flatten()).long() + BINS * truth.flatten().bool()
    counts.view(-1).scatter_add_(0, index, torch.ones_like(index))


def bin_floors() -> Tensor:  # (BINS,)
    """Return the lowest score of every bin."""
    code = torch.arange(BINS - 1, dtype=torch.int32) << _DROPPED
    mirrored = code > _HALF
    distance = (torch.where(mirrored, 2 * _HALF - code, code) + _OFFSET).view(torch.float32)
    floors = torch.where(mirrored, 1 - distance, distance)
    floors[0] = torch.nextafter(torch.zeros(()), torch.ones(()))
    return torch.cat([torch.zeros(1), floors])


def bin_tops() -> Tensor:  # (BINS,)
    """Return an upper bound of the scores of every bin, equal to the floor where the bin holds a single float.

    Binning changes nothing for the samples of such a bin.
    """
    floors = bin_floors()
    following = torch.cat([floors[1:], torch.ones(1)])
    return torch.where(torch.nextafter(floors, following) >= following, floors, following)
