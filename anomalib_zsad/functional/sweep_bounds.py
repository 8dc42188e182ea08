"""How far AUPRO-200 of binned scores may be from that of the scores themselves."""

import numpy as np
from numpy.typing import NDArray

from anomalib_zsad.functional.curves import FPR_LIMIT, SWEEP_STEPS, DetectionCurve, Increments, sweep_thresholds

_ROUNDING = 4e-7
"""The rounding error of thresholds, whose step has 32 bits, as a share of the range of scores."""


def sweep_error(
    bins: Increments,
    tops: NDArray[np.float32],  # (G,)
    regions: int,
) -> float:
    """Bound the error that binning adds to AUPRO-200.

    The lowest and the highest score, and with them every threshold, are known to a bin's width, and so is on which side
    of a threshold the samples of a bin lie. That bounds the false positive rate and the overlap at each threshold. The
    area grows with every overlap and with the last rate, by which it is divided, and falls with all other rates.

    Args:
        bins: All increments, binned, highest first; their scores are the lowest of each bin.
        tops: The highest score that each bin can hold; the lowest one where it holds a single float.
        regions: Number of anomalous regions.

    Returns:
        The greatest possible difference; 1 where it cannot be bounded, nan where AUPRO-200 is not available.
    """
    floors, reached = bins.scores.astype(np.float64), np.cumsum(bins.counts, axis=1)
    curve = DetectionCurve(
        int(reached[0, -1]), int(reached[1, -1]), regions, sweep_thresholds(bins.scores[-1], bins.scores[0])
    )
    curve.add(bins)
    found = curve.aupro_200
    if np.isnan(found):
        return found
    known = curve.thresholds[::-1], curve.thresholds[::-1]
    exact = np.array_equal(bins.scores[[0, -1]], tops[[0, -1]])
    low, high = known if exact else _thresholds(floors, tops.astype(np.float64))
    least = _rates(floors, reached, high, regions)
    most = _rates(tops.astype(np.float64), reached, low, regions)
    lasts = np.flatnonzero((least[0] < FPR_LIMIT) & (np.append(most[0][1:], 1) >= FPR_LIMIT))
    # Rounding may add a threshold just below the highest score, or not.
    areas = [area for last in lasts.tolist() for area in _extremes(least, most, last, first=0 if exact else 1)]
    return float(np.clip(np.abs(np.array(areas) - found).max(initial=0), 0, 1)) if areas else 1.0


def _thresholds(
    floors: NDArray[np.float64],  # (G,)
    tops: NDArray[np.float64],  # (G,)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (K,) each, descending
    share = np.arange(SWEEP_STEPS, -1, -1) / SWEEP_STEPS
    low, high = (lowest + share * (highest - lowest) for lowest, highest in (ends[[-1, 0]] for ends in (floors, tops)))
    slack = _ROUNDING * (tops[0] - floors[-1])
    return low - slack, high + slack


def _rates(
    scores: NDArray[np.float64],  # (G,), descending
    reached: NDArray[np.float64],  # (3, G)
    thresholds: NDArray[np.float64],  # (K,)
    regions: int,
) -> NDArray[np.float64]:  # (2, K): false positive rate, overlap
    above = np.searchsorted(-scores, -thresholds, side="left")
    known = np.hstack([np.zeros((3, 1)), reached])[:, above]
    return known[[0, 2]] / np.array([[reached[0, -1]], [max(regions, 1)]])


def _extremes(
    least: NDArray[np.float64],  # (2, K)
    most: NDArray[np.float64],  # (2, K)
    last: int,
    first: int,
) -> tuple[float, float]:
    """Return the smallest and the largest area where `last` is the last threshold below the limit.

    The smallest begins at the threshold `first`, the largest at once.
    """
    shortest, longest = least[0, last], min(most[0, last], FPR_LIMIT)
    if shortest == 0:
        return 0.0, 1.0
    late = np.minimum(most[0, first : last + 1], shortest)
    early = np.append(least[0, :last], longest)
    smallest = _area(late, least[1, first : last + 1]) / shortest
    return smallest, min(_area(early, most[1, : last + 1]) / longest, 1.0)


def _area(
    rates: NDArray[np.float64],  # (K,)
    overlaps: NDArray[np.float64],  # (K,)
) -> float:
    return float(np.diff(rates) @ (overlaps[1:] + overlaps[:-1])) / 2
