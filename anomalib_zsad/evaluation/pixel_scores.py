"""The pixels of one category: exact while memory allows, binned beyond."""

from collections.abc import Collection

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from anomalib_zsad.evaluation.binning import BINS, bin_floors, bin_of, bin_tops
from anomalib_zsad.functional.curves import (
    DetectionCurve,
    Increments,
    binning_errors,
    curve_of,
    pack,
    sweep_thresholds,
)
from anomalib_zsad.functional.sweep_bounds import sweep_error

_PIECE = 2**20
_HISTOGRAM_BYTES = 3 * BINS * 8


class PixelScores:
    """Accumulates anomaly maps and masks, and computes the pixel metrics of them all.

    Exact, a pixel takes 8 bytes: its score and the area of its region. `fold` turns them into a histogram of fixed
    size (7.7 MB), after which the metrics come with bounds of their errors.
    """

    def __init__(self) -> None:
        self.regions = 0
        self.anomalous = 0
        self.pixels = 0
        self._keys = np.empty(0, np.uint64)
        self._bins: NDArray[np.float64] | None = None  # (3, BINS): normal, anomalous, sum of 1 / area

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return self._keys.nbytes if self._bins is None else self._bins.nbytes

    @property
    def binned(self) -> bool:
        """Whether the pixels have been folded into bins."""
        return self._bins is not None

    def add(
        self,
        scores: NDArray[np.float32],  # (H, W), in [0, 1]
        mask: NDArray[np.bool_],  # (H, W)
    ) -> None:
        """Add one image; its regions are connected through edges and corners.

        Args:
            scores: The anomaly map.
            mask: True where the pixel is anomalous.
        """
        regions, areas = region_areas(mask)
        self.regions += regions
        self.anomalous += int(np.count_nonzero(mask))
        self.pixels += scores.size
        keys = pack(scores, areas).ravel()
        if self._bins is not None:
            _count(keys, self._bins)
            return
        held = self._keys.size
        self._keys.resize(held + keys.size, refcheck=False)  # in place: pages are moved, not copied
        self._keys[held:] = keys

    def fold(self) -> None:
        """Fold the pixels into a histogram of fixed size."""
        self._bins = np.zeros((3, BINS))
        for start in range(0, self._keys.size, _PIECE):
            _count(self._keys[start : start + _PIECE], self._bins)
        self._keys = np.empty(0, np.uint64)

    def curve(self) -> DetectionCurve:
        """Compute the curve of all pixels, of which some must be normal and some anomalous."""
        if self._bins is None:
            return curve_of(self._keys, self.anomalous, self.regions)
        bins = _increments(self._bins)
        sweep = sweep_thresholds(bins.scores[-1], bins.scores[0])
        curve = DetectionCurve(self.pixels - self.anomalous, self.anomalous, self.regions, sweep)
        curve.add(bins)
        return curve

    def errors(self) -> dict[str, float]:
        """Bound the errors of the curve's metrics by name: none where the pixels are exact."""
        if self._bins is None:
            return {}
        bins, tops = _increments(self._bins), bin_tops().numpy()[_filled(self._bins)]
        errors = binning_errors(bins, tops == bins.scores, self.regions)
        of_sweep = sweep_error(bins, tops, self.regions)
        return errors if np.isnan(of_sweep) else {**errors, "AUPRO_200": of_sweep}


def fold_to_fit(categories: Collection[PixelScores], limit: int) -> None:
    """Fold the largest categories until all of them together fit, or none is larger than a histogram.

    Args:
        categories: All that hold pixels at this time.
        limit: Bytes.
    """
    while sum(each.nbytes for each in categories) > limit:
        largest = max((each for each in categories if not each.binned), key=lambda each: each.nbytes, default=None)
        if largest is None or largest.nbytes <= _HISTOGRAM_BYTES:
            return
        largest.fold()


def region_areas(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.int64]]:  # (H, W) -> count, (H, W)
    """Number the anomalous regions, connected through edges and corners, and give every pixel the area of its own."""
    if not mask.any():
        return 0, np.zeros(mask.shape, np.int64)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return count - 1, areas[labels]


def _count(keys: NDArray[np.uint64], bins: NDArray[np.float64]) -> None:  # (n,) into (3, BINS)
    scores = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)
    areas = keys.astype(np.uint32)  # the lower half
    index = bin_of(torch.from_numpy(scores)).numpy()
    anomalous = areas > 0
    bins[0] += np.bincount(index[~anomalous], minlength=BINS)
    bins[1] += np.bincount(index[anomalous], minlength=BINS)
    bins[2] += np.bincount(index[anomalous], 1 / areas[anomalous], minlength=BINS)


def _filled(bins: NDArray[np.float64]) -> NDArray[np.intp]:  # (3, BINS) -> (G,), highest score first
    return np.flatnonzero(bins[:2].any(axis=0))[::-1]


def _increments(bins: NDArray[np.float64]) -> Increments:  # (3, BINS)
    filled = _filled(bins)
    return Increments(bin_floors().numpy()[filled], bins[:, filled])
