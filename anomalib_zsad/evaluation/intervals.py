"""Bootstrap intervals of a category's metrics: images are resampled, stratified by label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap

from anomalib_zsad.evaluation.binning import BINS, bin_floors, bin_of
from anomalib_zsad.evaluation.pixel_scores import region_areas
from anomalib_zsad.evaluation.scored_image import ScoredImage
from anomalib_zsad.evaluation.table import MEAN, CategoryResult
from anomalib_zsad.functional.curves import DetectionCurve, Increments, curve_of, pack

RESAMPLES = 1000
LEVEL = 0.95

_COARSE = 64
_CELLS = -(-BINS // _COARSE)
"""64 bins in each octave of the distance to the nearer end of [0, 1]."""


@dataclass
class ImageBins:
    """The images of a category, one by one: their scores, and their pixels as histograms of 5000 bins (60 kB each)."""

    scores: list[float] = field(default_factory=list)
    labels: list[bool | None] = field(default_factory=list)
    pixels: list[NDArray[np.float32]] = field(default_factory=list)  # each (3, _CELLS)
    regions: list[int] = field(default_factory=list)

    def add(self, image: ScoredImage) -> None:
        """Add one image."""
        self.scores.append(image.score)
        self.labels.append(image.label)
        if image.anomaly_map is None or image.mask is None:
            return
        count, areas = region_areas(image.mask)
        index = bin_of(torch.from_numpy(image.anomaly_map)).numpy().ravel() // _COARSE
        anomalous, areas = areas.ravel() > 0, areas.ravel()
        histograms = [
            np.bincount(index[~anomalous], minlength=_CELLS),
            np.bincount(index[anomalous], minlength=_CELLS),
            np.bincount(index[anomalous], 1 / areas[anomalous], minlength=_CELLS),
        ]
        self.pixels.append(np.stack(histograms).astype(np.float32))
        self.regions.append(count)

    def resampled(self, metrics: Sequence[str]) -> dict[str, NDArray[np.float64]]:  # (RESAMPLES,) each
        """Compute metrics of images that are drawn with replacement, as many of each label as there are.

        Args:
            metrics: Those that the category has; those of ranking among them are resampled, but for AUPRO-200, which
                bins have no bound for.

        Returns:
            Nothing where a label has a single image.
        """
        names = [name for name in metrics if name in _RESAMPLED]
        labels = np.array([str(label) for label in self.labels])
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        if not names or min(map(len, groups)) < 2:
            return {}
        scores = np.array(self.scores, np.float32)
        anomalous = np.array([label is True for label in self.labels])
        pixels = _Pixels(self.pixels, self.regions) if len(self.pixels) == len(scores) else None

        def statistic(*drawn: NDArray[np.intp]) -> NDArray[np.float64]:  # (n,) each -> (M,)
            index = np.concatenate(drawn)
            values: dict[str, float] = {}
            if any(name.startswith("image") for name in names):
                keys = pack(scores[index], anomalous[index].astype(np.int64))
                values |= _ranking("image", curve_of(keys, int(anomalous[index].sum())))
            if pixels is not None:
                values |= _ranking("pixel", pixels.curve(np.bincount(index, minlength=len(scores))))
            return np.array([values.get(name, np.nan) for name in names])

        found = bootstrap(
            groups, statistic, n_resamples=RESAMPLES, vectorized=False, method="percentile", random_state=0
        ).bootstrap_distribution  # (M, R)
        return dict(zip(names, found, strict=True))


_RANKED = ("AUROC", "AP", "F1Max")
_RESAMPLED = (*(f"image_{name}" for name in _RANKED), *(f"pixel_{name}" for name in _RANKED), "pixel_AUPRO")


def with_intervals(table: pd.DataFrame, results: Mapping[str, CategoryResult]) -> pd.DataFrame:
    """Add the columns `<metric>_low` and `<metric>_high`: the middle 95 % over the resampled images.

    A draw's mean is over all categories that have the metric, each drawn for itself: what is uncertain is which images
    there are, not which categories. It stays empty where one of them cannot be drawn.

    Args:
        table: The result of `table.results_table`.
        results: By category; the table stays as it is where none has been resampled.
    """
    drawn = {name: dict(result.resampled) for name, result in results.items()}
    columns = [name for name in _RESAMPLED if any(name in values for values in drawn.values())]
    having = {name: [each for each in results if name in results[each].values] for name in columns}
    drawn[MEAN] = {
        name: np.mean([drawn[category][name] for category in categories], axis=0)
        for name, categories in having.items()
        if all(name in drawn[category] for category in categories)
    }
    tail = (1 - LEVEL) / 2
    bounds = {
        f"{name}_{end}": [
            float(np.quantile(drawn[row][name], level)) if name in drawn[row] else np.nan for row in table["category"]
        ]
        for name in columns
        for end, level in (("low", tail), ("high", 1 - tail))
    }
    return table.assign(**bounds)


class _Pixels:
    """The histograms of N images, without the bins that none of them fills."""

    def __init__(self, histograms: Sequence[NDArray[np.float32]], regions: Sequence[int]) -> None:
        stacked = np.stack(histograms)  # (N, 3, _CELLS)
        filled = np.flatnonzero(stacked[:, :2].any(axis=(0, 1)))[::-1]  # highest score first
        self._scores = bin_floors().numpy()[::_COARSE][filled]
        self._bins, self._regions = stacked[:, :, filled].reshape(len(stacked), -1), np.array(regions)

    def curve(self, times: NDArray[np.integer]) -> DetectionCurve:  # (N,): how often each image counts
        bins = (times.astype(np.float32) @ self._bins).reshape(3, -1).astype(np.float64)
        drawn = bins[:2].any(axis=0)
        curve = DetectionCurve(round(bins[0].sum()) or 1, round(bins[1].sum()) or 1, int(times @ self._regions))
        curve.add(Increments(self._scores[drawn], bins[:, drawn]))
        return curve


def _ranking(level: str, curve: DetectionCurve) -> dict[str, float]:
    values = dict(zip(_RANKED, (curve.auroc, curve.average_precision, curve.f1_max), strict=True))
    return {f"{level}_{name}": value for name, value in (values | {"AUPRO": curve.aupro}).items()}
