"""Accumulates the scores of one category's images and computes its metrics."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anomalib_zsad.evaluation.decisions import DecisionCounts
from anomalib_zsad.evaluation.intervals import ImageBins
from anomalib_zsad.evaluation.pixel_scores import PixelScores
from anomalib_zsad.evaluation.scored_image import ScoredImage
from anomalib_zsad.evaluation.table import CategoryResult
from anomalib_zsad.functional.curves import DetectionCurve, curve_of, pack

Curves = dict[str, NDArray[np.float64]]


@dataclass
class CategoryScores:
    """The raw scores, labels and pixels of one category; with `images` also those of every image, for intervals."""

    scores: list[float] = field(default_factory=list)
    labels: list[bool | None] = field(default_factory=list)
    pixels: PixelScores = field(default_factory=PixelScores)
    image_decisions: DecisionCounts = field(default_factory=DecisionCounts)
    pixel_decisions: DecisionCounts = field(default_factory=DecisionCounts)
    images: ImageBins | None = None
    without_mask: int = 0
    without_map: int = 0

    def add(self, image: ScoredImage) -> None:
        """Add one image."""
        self.scores.append(image.score)
        self.labels.append(image.label)
        if self.images is not None:
            self.images.add(image)
        self.without_map += image.anomaly_map is None
        self.without_mask += image.mask is None
        if image.anomaly_map is not None and image.mask is not None:
            self.pixels.add(image.anomaly_map, image.mask)
        if image.called_anomalous is not None and image.label is not None:
            self.image_decisions.add(np.array(image.called_anomalous), np.array(image.label))
        if image.called_mask is not None and image.mask is not None:
            self.pixel_decisions.add(image.called_mask, image.mask)

    def result(self) -> CategoryResult:
        """Compute the metrics that these images allow."""
        result = CategoryResult(len(self.scores), sum(label is True for label in self.labels))
        for reason, metrics in (self._image_metrics(result.curves), self._pixel_metrics(result.curves)):
            result.values.update(metrics)
            if reason:
                result.notes.append(reason)
        if self.images is not None:
            result.resampled = self.images.resampled([*result.values])
        return result

    def _image_metrics(self, curves: Curves) -> tuple[str, dict[str, float]]:
        if None in self.labels:
            return "no labels", {}
        anomalous = sum(map(bool, self.labels))
        if anomalous in {0, len(self.labels)}:
            return f"no {'normal' if anomalous else 'anomalous'} image", {}
        keys = pack(np.array(self.scores, np.float32), np.array(self.labels, np.int64))
        curve = curve_of(keys, anomalous)
        curves["image_ROC"] = curve.drawn[0]
        return "", _named("image", curve) | self._decided("image", self.image_decisions)

    def _pixel_metrics(self, curves: Curves) -> tuple[str, dict[str, float]]:
        if reason := self._pixels_missing():
            return reason, {}
        curve = self.pixels.curve()
        curves["pixel_ROC"], curves["pixel_PRO"] = curve.drawn
        values = _named("pixel", curve) | {"pixel_AUPRO": curve.aupro} | self._decided("pixel", self.pixel_decisions)
        if np.isnan(curve.aupro_200):
            return "; ".join(["no AUPRO_200: fewer than two thresholds below the limit", *self._binned()]), values
        return "; ".join(self._binned()), values | {"pixel_AUPRO_200": curve.aupro_200}

    @staticmethod
    def _decided(level: str, counts: DecisionCounts) -> dict[str, float]:
        return counts.metrics(level) if counts.anomalous else {}  # none without a threshold

    def _pixels_missing(self) -> str:
        for what, count in (("anomaly map", self.without_map), ("mask", self.without_mask)):
            if count:
                return f"no {what}s" if count == len(self.scores) else f"{count} images without {what}"
        if self.pixels.anomalous in {0, self.pixels.pixels}:
            return f"no {'normal' if self.pixels.anomalous else 'anomalous'} pixel"
        return ""

    def _binned(self) -> list[str]:
        bounds = ", ".join(f"{name} {bound:.1e}" for name, bound in self.pixels.errors().items())
        return [f"pixels binned, error at most {bounds}"] if bounds else []


def _named(level: str, curve: DetectionCurve) -> dict[str, float]:
    return {
        f"{level}_AUROC": curve.auroc,
        f"{level}_AP": curve.average_precision,
        f"{level}_F1Max": curve.f1_max,
    }
