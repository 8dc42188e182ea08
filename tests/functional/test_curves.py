"""The streamed curves against slow, independent references."""

import numpy as np
import pytest
import torch
from anomalib.metrics import AUPRO
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import measure
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from anomalib_zsad.functional import curves
from anomalib_zsad.functional.curves import RATES, DetectionCurve, binning_errors, curve_of, pack, walk


def reference_aupro_200(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float:
    """The loop over thresholds and regions, as AF-CLIP and others compute it."""
    lowest, highest = maps.min(), maps.max()
    overlap, fpr = [], []
    regions = [(i, r.coords) for i, mask in enumerate(masks) for r in measure.regionprops(measure.label(mask))]
    for threshold in np.arange(lowest, highest, (highest - lowest) / 200):
        passed = maps > threshold
        overlap.append(np.mean([passed[i][tuple(coords.T)].mean() for i, coords in regions]))
        fpr.append((passed & ~masks).sum() / (~masks).sum())
    kept = np.array(fpr) < 0.3
    rates = np.array(fpr)[kept]
    return float(auc(rates / rates.max(), np.array(overlap)[kept]))


def region_areas(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """The area of each pixel's region, by scikit-image, and the number of regions."""
    areas, count = np.zeros(masks.shape, np.int64), 0
    for area, mask in zip(areas, masks, strict=True):
        for region in measure.regionprops(measure.label(mask)):
            area[tuple(region.coords.T)] = region.area
            count += 1
    return areas, count


def curve_of_maps(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> DetectionCurve:
    areas, regions = region_areas(masks)
    return curve_of(pack(maps.ravel(), areas.ravel()), int(masks.sum()), regions)


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps from smooth to heavily tied and saturated, and blobs of any shape, with both kinds of pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), draw(st.integers(3, 14)), draw(st.integers(3, 14)))
    masks = rng.random(shape) < draw(st.sampled_from([0.05, 0.3, 0.6]))
    masks[0, 0, 0] = True
    masks[:, -1, -1] = False  # anomalib's AUPRO takes a mask without any normal pixel for one without a region
    maps = rng.random(shape) + masks * draw(st.sampled_from([0.0, 0.3]))
    levels = draw(st.sampled_from([1, 2, 5, 50, 10**7]))
    gain = draw(st.sampled_from([1.0, 1.6, 4.0]))
    maps = (np.round(maps / maps.max() * levels) / levels - 0.3) * gain + 0.3
    return maps.clip(0, 1).astype(np.float32), masks


@pytest.fixture(params=[2**20, 7], ids=["one piece", "pieces of 7"])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_PIECE", request.param)


@pytest.mark.usefixtures("piece")
class TestAgainstReferences:
    @settings(max_examples=60)
    @given(case=maps_and_masks())
    def test_auroc_and_average_precision_are_those_of_sklearn(self, case) -> None:
        maps, masks = case
        curve = curve_of_maps(maps, masks)
        assert curve.auroc == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
        assert curve.average_precision == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)

    @settings(max_examples=60)
    @given(case=maps_and_masks())
    def test_f1_max_is_the_best_over_all_thresholds(self, case) -> None:
        maps, masks = case
        curve = curve_of_maps(maps, masks)
        precision, recall, _ = precision_recall_curve(masks.ravel(), maps.ravel())
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        assert curve.f1_max == pytest.approx(best, abs=1e-12)
        passed = maps >= np.float32(curve.f1_threshold)
        assert 2 * (passed & masks).sum() / (passed.sum() + masks.sum()) == pytest.approx(best, abs=1e-12)

    @settings(max_examples=60)
    @given(case=maps_and_masks())
    def test_aupro_is_that_of_anomalib(self, case) -> None:
        maps, masks = case
        metric = AUPRO(fields=["anomaly_map", "gt_mask"])
        # Update of the metric below anomalib's batch interface.
        metric.preds.append(torch.from_numpy(maps))
        metric.target.append(torch.from_numpy(masks))
        metric._update_count = 1
        assert curve_of_maps(maps, masks).aupro == pytest.approx(metric.compute().item(), abs=2e-6)

    @settings(max_examples=60)
    @given(case=maps_and_masks())
    def test_aupro_200_is_that_of_the_loop(self, case) -> None:
        maps, masks = case
        value = curve_of_maps(maps, masks).aupro_200
        if np.isnan(value):
            thresholds = np.linspace(maps.min(), maps.max(), 201)[:-1]
            rates = [(maps[~masks] > threshold).mean() for threshold in thresholds]
            assert sum(rate < 0.3 for rate in rates) < 2 or not any(0 < rate < 0.3 for rate in rates)
        else:
            assert value == pytest.approx(reference_aupro_200(maps, masks), abs=1e-9)


def test_thresholds_are_those_of_the_loop_to_the_last_digit() -> None:
    lowest, highest = np.float32(0.0003022), np.float32(1)
    expected = np.arange(lowest, highest, (highest - lowest) / np.float32(200), dtype=np.float64)
    np.testing.assert_array_equal(curves.sweep_thresholds(lowest, highest), expected)
    assert not np.array_equal(expected, expected.astype(np.float32))


def test_scores_of_equal_value_are_one_increment_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_PIECE", 3)
    scores = np.array([0.5] * 8 + [1.0, 0.25], np.float32)
    keys = np.sort(pack(scores, np.array([0, 4] * 5)))
    pieces = list(walk(keys))
    np.testing.assert_array_equal(np.concatenate([p.scores for p in pieces]), np.float32([1, 0.5, 0.25]))
    np.testing.assert_allclose(np.concatenate([p.counts for p in pieces], axis=1), [[1, 4, 0], [0, 4, 1], [0, 1, 0.25]])


def test_negative_zero_is_zero() -> None:
    np.testing.assert_array_equal(pack(np.float32([-0.0]), np.array([3])), pack(np.float32([0.0]), np.array([3])))


@settings(max_examples=60)
@given(case=maps_and_masks(), bins=st.sampled_from([3, 10, 40]))
def test_errors_of_binned_scores_stay_within_their_bound(case, bins: int) -> None:
    maps, masks = case
    areas, regions = region_areas(masks)
    exact = curve_of_maps(maps, masks)
    binned_maps = (np.floor(maps * bins) / bins).astype(np.float32)
    binned = curve_of_maps(binned_maps, masks)
    pieces = list(walk(np.sort(pack(binned_maps.ravel(), areas.ravel()))))
    merged = curves.Increments(
        np.concatenate([p.scores for p in pieces]), np.concatenate([p.counts for p in pieces], axis=1)
    )
    bounds = binning_errors(merged, np.zeros(merged.scores.shape, bool), regions)
    assert abs(exact.auroc - binned.auroc) <= bounds["AUROC"] + 1e-12
    assert abs(exact.average_precision - binned.average_precision) <= bounds["AP"] + 1e-12
    assert abs(exact.f1_max - binned.f1_max) <= bounds["F1Max"] + 1e-12
    assert abs(exact.aupro - binned.aupro) <= bounds["AUPRO"] + 1e-12


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.booleans()), min_size=4, max_size=40))
def test_the_drawn_curve_is_that_of_scikit_learn(samples):
    scores, labels = map(np.array, zip(*samples, strict=True))
    assume(labels.any() and not labels.all())
    curve = curve_of(pack(scores.astype(np.float32), labels.astype(np.int64)), int(labels.sum()))
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate, drawn in zip(RATES, curve.drawn[0], strict=True):
        after = int(np.searchsorted(fpr, rate, side="right"))
        left, right = max(after - 1, 0), min(after, len(fpr) - 1)
        share = (rate - fpr[left]) / (fpr[right] - fpr[left]) if fpr[right] > fpr[left] else 0
        assert drawn == pytest.approx(tpr[left] + share * (tpr[right] - tpr[left]), abs=1e-9)
