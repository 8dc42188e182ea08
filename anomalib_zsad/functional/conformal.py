"""Split-conformal prediction from normal scores alone: thresholds with a bounded rate of false alarms, and p-values.

A new normal image and n calibration images whose scores are exchangeable stand in every order with equal probability.
So the new score exceeds the k-th smallest of n with a probability of at most 1 - k / (n + 1), whatever the distribution
of the scores; ties only lower it.

Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005), chapter 4; Bates et al., "Testing
for Outliers with Conformal p-values" (2023), eq. 2.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray


def conformal_threshold(normal_scores: ArrayLike, false_alarms: float) -> float:
    """Return the threshold that a new normal score exceeds with a probability of at most `false_alarms`.

    Args:
        normal_scores: (n,) scores of normal images that nothing was fitted on.
        false_alarms: The promised rate, in (0, 1).

    Returns:
        The ceil((n + 1)(1 - false_alarms))-th smallest score; what is greater than it is an alarm.

    Raises:
        ValueError: If n scores are too few for this rate, or one is no number.
    """
    scores = _checked(normal_scores)
    check_number(len(scores), false_alarms)
    rank = math.ceil((len(scores) + 1) * (1 - _exact(false_alarms)))
    return float(np.partition(scores, rank - 1)[rank - 1])


def p_values(
    scores: ArrayLike,  # of any shape
    normal_scores: ArrayLike,  # (n,)
) -> NDArray[np.float64]:  # of the shape of scores, in [1 / (n + 1), 1]
    """Return the p-value of each score: (1 + number of normal scores >= it) / (n + 1).

    It is at most `false_alarms` exactly where the score exceeds `conformal_threshold`.

    Raises:
        ValueError: If there are no normal scores, or one is no number.
    """
    ordered = np.sort(_checked(normal_scores))
    return (1 + len(ordered) - np.searchsorted(ordered, np.asarray(scores), side="left")) / (1 + len(ordered))


def check_number(n_images: int, false_alarms: float) -> None:
    """Check that there are enough normal images for a rate of false alarms.

    Raises:
        ValueError: If it is not; the message says how many are needed, and what can be promised with these.
    """
    if n_images < (needed := least_images(false_alarms)):
        msg = (
            f"false_alarms={false_alarms:g}: expected at least {needed} normal images, got {n_images}; "
            f"with these, {least_rate(n_images):.4g} can be promised"
        )
        raise ValueError(msg)


def least_images(false_alarms: float) -> int:
    """Return the least number of normal images for a rate: ceil(1 / false_alarms) - 1."""
    return math.ceil(1 / _exact(false_alarms)) - 1


def least_rate(n_images: int) -> float:
    """Return the lowest rate of false alarms for n normal images: 1 / (n + 1)."""
    return 1 / (n_images + 1)


def _exact(false_alarms: float) -> Fraction:
    """Convert a rate as it is written: 0.1 as one tenth, so that 9 images are enough for it."""
    if not 0 < false_alarms < 1:
        msg = f"false_alarms: expected a rate between 0 and 1, both excluded, got {false_alarms!r}"
        raise ValueError(msg)
    return Fraction(repr(float(false_alarms)))


def _checked(normal_scores: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(normal_scores, dtype=np.float64).ravel()
    if not len(scores) or not np.isfinite(scores).all():
        msg = f"expected scores of normal images, got {len(scores)}, {np.count_nonzero(~np.isfinite(scores))} no number"
        raise ValueError(msg)
    return scores
