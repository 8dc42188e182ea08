"""Standardisation of the members' scores: pure functions, and the statistics of every member."""

import torch
from torch import Tensor, nn

_ROUNDING = 1e-6
"""Deviations below this share of the mean are rounding errors of equal scores."""


class ScoreScale(nn.Module):
    """Mean and standard deviation of each member's scores on the validation data; nan until they are fitted.

    Args:
        members: M, the number of members.
    """

    mean: Tensor  # (M,)
    deviation: Tensor  # (M,)

    def __init__(self, members: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((members,), float("nan")))
        self.register_buffer("deviation", torch.full((members,), float("nan")))

    def fit(
        self,
        sums: Tensor,  # (M, 3) as `sums_of` gives them, added up
    ) -> None:
        """Set the statistics; the deviation of equal scores is 1."""
        count, total, squares = sums.unbind(1)
        mean = total / count
        deviation = (squares / count - mean**2).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation <= _ROUNDING * mean.abs(), 1.0, deviation))

    def forward(
        self,
        scores: Tensor,  # any shape
        member: int,
    ) -> Tensor:
        """Standardise the scores of a member."""
        return (scores - self.mean[member]) / self.deviation[member]


def sums_of(
    scores: Tensor | None,  # any shape
) -> Tensor:  # (3,) of 64 bits, on the CPU
    """Return the count of scores, their sum and the sum of their squares."""
    if scores is None:
        return torch.zeros(3, dtype=torch.float64)
    values = scores.detach().cpu().double()
    return torch.stack([torch.tensor(float(values.numel()), dtype=torch.float64), values.sum(), values.square().sum()])


def to_unit(
    z: Tensor,  # any shape
) -> Tensor:
    """Map numbers to (0, 1), strictly increasing: (1 + z / (1 + |z|)) / 2, which is 1/2 at 0.

    Its tails fall with 1 / |z|; a logistic function rounds to 1 in 32 bits from 17 on.
    """
    half = 0.5 / (1 + z.abs())
    return torch.where(z < 0, half, 1 - half)
