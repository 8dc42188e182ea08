"""Detection metrics from one walk down the scores.

Lowering a threshold through the distinct scores, highest first, lets normal and anomalous samples (pixels) enter;
those of equal score enter together. Every metric here is a sum over these increments, so the walk takes them in
pieces of any length, whether they come from all pixels, sorted, or from the bins of a histogram.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FPR_LIMIT = 0.3
"""The false positive rate at which the area under the PRO curve ends."""

SWEEP_STEPS = 200
"""The thresholds of the AUPRO variant that papers report."""

RATES = np.linspace(0, 1, 201)
"""The false positive rates at which curves are kept for drawing."""

_PIECE = 2**20


@dataclass(frozen=True)
class Increments:
    """What enters when the threshold falls to each of G distinct scores, highest first.

    Args:
        scores: The distinct scores.
        counts: Rows: normal samples, anomalous samples, and the sum of 1 / area of the region over the anomalous ones.
    """

    scores: NDArray[np.float32]  # (G,)
    counts: NDArray[np.float64]  # (3, G)


def pack(
    scores: NDArray[np.float32],  # any shape, in [0, 1]
    areas: NDArray[np.integer],  # the same shape
) -> NDArray[np.uint64]:
    """Pack each score with the area of its sample's region into a number that sorts by score.

    Scores are not negative, so their bit patterns are in their order. They fill the upper half of the number.

    Args:
        scores: Anomaly scores.
        areas: Number of pixels in the anomalous region to which the sample belongs; 0 where it is normal.
    """
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # adding 0 turns -0 into 0
    return (bits.astype(np.uint64) << np.uint64(32)) | areas.astype(np.uint64)


def walk(keys: NDArray[np.uint64]) -> Iterator[Increments]:
    """Yield the increments of sorted, packed samples in pieces; no score appears in two of them.

    Args:
        keys: The result of `pack`, in ascending order.
    """
    held = Increments(np.empty(0, np.float32), np.empty((3, 0)))
    for end in range(keys.size, 0, -_PIECE):
        piece = _join(held, _increments(keys[max(end - _PIECE, 0) : end]))
        # Equal scores may go on in the next piece.
        yield Increments(piece.scores[:-1], piece.counts[:, :-1])
        held = Increments(piece.scores[-1:], piece.counts[:, -1:])
    yield held


def curve_of(keys: NDArray[np.uint64], positives: int, regions: int = 0) -> "DetectionCurve":
    """Accumulate the curve of packed samples, some of them normal and some anomalous; sorts them in place.

    Args:
        keys: The result of `pack`, in any order.
        positives: How many of them are anomalous.
        regions: Number of anomalous regions, where the areas are those of regions.
    """
    keys.sort()
    lowest, highest = (keys[[0, -1]] >> np.uint64(32)).astype(np.uint32).view(np.float32)
    curve = DetectionCurve(keys.size - positives, positives, regions, sweep_thresholds(lowest, highest))
    for piece in walk(keys):
        curve.add(piece)
    return curve


def sweep_thresholds(lowest: np.float32, highest: np.float32) -> NDArray[np.float64]:
    """Return the equally spaced thresholds of AUPRO-200, ascending; none where all scores are equal."""
    step = (highest - lowest) / np.float32(SWEEP_STEPS)
    return np.arange(lowest, highest, step, dtype=np.float64) if step > 0 else np.empty(0)


class DetectionCurve:
    """The ROC, precision-recall and PRO curve of one set of scores, summed up while it is walked.

    Args:
        negatives: Number of normal samples, at least 1.
        positives: Number of anomalous samples, at least 1.
        regions: Number of anomalous regions; 0 where there are none, and then no AUPRO.
        thresholds: Those of AUPRO-200, ascending.
    """

    def __init__(
        self,
        negatives: int,
        positives: int,
        regions: int = 0,
        thresholds: NDArray[np.float64] | None = None,  # (K,)
    ) -> None:
        self.negatives, self.positives, self.regions = negatives, positives, regions
        self.thresholds = np.empty(0) if thresholds is None else thresholds
        self._sweep = np.zeros((2, self.thresholds.size))
        self._reached = np.zeros((3, 1))
        self._roc_area = self._precision_sum = self._pro_area = 0.0
        self.drawn = np.zeros((2, RATES.size))
        self.f1_max, self.f1_threshold = 0.0, np.nan

    def add(self, piece: Increments) -> None:
        """Continue with lower scores."""
        if not piece.scores.size:
            return
        points = np.empty((3, piece.scores.size + 1))  # from the last one on
        points[:, :1], reached = self._reached, points[:, 1:]
        np.cumsum(piece.counts, axis=1, out=reached)
        reached += self._reached
        (normal, anomalous, _), (fp, tp, _) = piece.counts, reached
        self._roc_area += float(normal @ (tp - anomalous / 2))
        self._precision_sum += float(anomalous @ (tp / (tp + fp)))
        self._find_best_f1(piece.scores, fp, tp)
        fpr = points[0] / self.negatives
        self._draw(fpr, points)
        if self.regions:
            self._add_pro(fpr, points)
            self._note_sweep(piece.scores, reached)
        self._reached = reached[:, -1:].copy()

    drawn: NDArray[np.float64]  # (2, K)
    """True positive rate and mean per-region overlap at `RATES`, for plots; the areas do not come from here."""

    @property
    def auroc(self) -> float:
        """Area under the ROC curve; ties count half."""
        return self._roc_area / (self.negatives * self.positives)

    @property
    def average_precision(self) -> float:
        """Mean precision over the recall steps, as scikit-learn defines it."""
        return self._precision_sum / self.positives

    @property
    def aupro(self) -> float:
        """Area under the mean per-region overlap up to the limit of the false positive rate, divided by the limit."""
        return self._pro_area / FPR_LIMIT if self.regions else np.nan

    @property
    def aupro_200(self) -> float:
        """AUPRO over 200 equally spaced thresholds, without interpolation, as AF-CLIP and others report it.

        The false positive rate is divided by its largest value below the limit. Saturated maps have few thresholds
        below the limit, so this value lies under the exact one; it is not available (nan) where fewer than two
        thresholds are left or none of them lets a normal pixel pass.
        """
        fpr, overlap = self._sweep / np.array([[self.negatives], [max(self.regions, 1)]])
        fpr, overlap = fpr[fpr < FPR_LIMIT][::-1], overlap[fpr < FPR_LIMIT][::-1]
        if fpr.size < 2 or fpr[-1] == 0:
            return np.nan
        return _trapezoid(overlap, fpr / fpr[-1])

    def _draw(
        self,
        fpr: NDArray[np.float64],  # (G + 1,)
        points: NDArray[np.float64],  # (3, G + 1)
    ) -> None:
        new = (fpr[0] <= RATES) & (fpr[-1] >= RATES)
        if not new.any():
            return
        after = np.searchsorted(fpr, RATES[new], side="right")  # the last of several points at one rate is before it
        beside = np.unique([after - 1, after.clip(max=fpr.size - 1)])
        shares = points[1:, beside] / np.array([[self.positives], [self.regions or 1]])
        for row, values in zip(self.drawn, shares, strict=True):
            row[new] = np.interp(RATES[new], fpr[beside], values)

    def _find_best_f1(
        self,
        scores: NDArray[np.float32],  # (G,)
        fp: NDArray[np.float64],  # (G,)
        tp: NDArray[np.float64],  # (G,)
    ) -> None:
        f1 = 2 * tp / (tp + fp + self.positives)
        best = int(f1.argmax())
        if f1[best] > self.f1_max:
            self.f1_max, self.f1_threshold = float(f1[best]), float(scores[best])

    def _add_pro(
        self,
        fpr: NDArray[np.float64],  # (G + 1,)
        points: NDArray[np.float64],  # (3, G + 1)
    ) -> None:
        end = int(np.searchsorted(fpr, FPR_LIMIT, side="right")) + 1
        fpr, overlap = fpr[:end], points[2, :end] / self.regions
        if fpr[-1] > FPR_LIMIT and fpr.size > 1:
            overlap[-1] = np.interp(FPR_LIMIT, fpr[-2:], overlap[-2:])
        self._pro_area += _trapezoid(overlap, fpr.clip(max=FPR_LIMIT))

    def _note_sweep(
        self,
        scores: NDArray[np.float32],  # (G,)
        reached: NDArray[np.float64],  # (3, G)
    ) -> None:
        above = np.searchsorted(-scores, -self.thresholds, side="left")
        self._sweep[:, above > 0] = reached[[0, 2]][:, above[above > 0] - 1]


def binning_errors(
    bins: Increments,
    exact: NDArray[np.bool_],  # (G,)
    regions: int,
) -> dict[str, float]:
    """Bound the error that the ties inside bins add to each metric.

    Samples of one bin may have any order. AUROC: half of the tied pairs. AUPRO: half of the rectangle between the
    curve's points, all of it for the bin that is cut by the limit. AP and F1: each bin's best and worst precision.

    Args:
        bins: All increments, binned.
        exact: Bins whose samples are truly tied.
        regions: Number of anomalous regions.

    Returns:
        The greatest possible difference from the exact AUROC, AP, F1Max and AUPRO.
    """
    (normal, anomalous, overlap), (fp, tp, _) = np.where(exact, 0, bins.counts), bins.counts.cumsum(axis=1)
    negatives, positives = float(fp[-1]), float(tp[-1])
    best = tp / np.maximum(tp + fp - normal, 1)
    worst = (tp - anomalous + 1) / (tp - anomalous + 1 + fp)
    middle = tp / np.maximum(tp + fp, 1)
    f1 = 2 * tp / (tp + fp + positives)
    f1_best = 2 * tp / (tp + fp - normal + positives)
    left, right = (fp - normal) / negatives, fp / negatives
    width = (right.clip(max=FPR_LIMIT) - left).clip(min=0) * np.where(right > FPR_LIMIT, 1.0, 0.5)
    return {
        "AUROC": float(normal @ anomalous) / 2 / (negatives * positives),
        "AP": float(anomalous @ np.maximum(best - middle, middle - worst)) / positives,
        "F1Max": float(f1_best.max() - f1.max()),
        "AUPRO": float(width @ overlap) / max(regions, 1) / FPR_LIMIT,
    }


def _increments(keys: NDArray[np.uint64]) -> Increments:  # (n,), ascending
    keys = keys[::-1]
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    areas = (keys & np.uint64(0xFFFFFFFF)).astype(np.float64)
    first = np.flatnonzero(np.concatenate([[True], bits[1:] != bits[:-1]]))
    anomalous = areas > 0
    overlaps = np.divide(1.0, areas, out=areas, where=anomalous)
    positives = np.add.reduceat(anomalous, first, dtype=np.float64)
    sizes = np.diff(first, append=keys.size)
    return Increments(
        bits[first].view(np.float32),
        np.stack([sizes - positives, positives, np.add.reduceat(overlaps, first)]),
    )


def _join(held: Increments, piece: Increments) -> Increments:
    if held.scores.size and held.scores[-1] == piece.scores[0]:
        piece.counts[:, 0] += held.counts[:, -1]
        return piece
    return Increments(
        np.concatenate([held.scores, piece.scores]),
        np.concatenate([held.counts, piece.counts], axis=1),
    )


def _trapezoid(
    y: NDArray[np.float64],  # (G,)
    x: NDArray[np.float64],  # (G,)
) -> float:
    return float(np.diff(x) @ (y[1:] + y[:-1])) / 2
