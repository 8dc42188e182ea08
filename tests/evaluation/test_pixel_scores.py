import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomalib_zsad.evaluation.binning import BINS, bin_floors, bin_of
from anomalib_zsad.evaluation.pixel_scores import PixelScores, fold_to_fit
from anomalib_zsad.functional.curves import Increments, curve_of, pack
from anomalib_zsad.functional.sweep_bounds import sweep_error


def filled(seed: int, images: int = 6, side: int = 24, gain: float = 1.0) -> PixelScores:
    rng = np.random.default_rng(seed)
    pixels = PixelScores()
    for image in range(images):
        mask = np.zeros((side, side), bool)
        if image % 2:
            mask[3:9, 3:9] = mask[9:12, 9:12] = mask[15:20, 2:6] = True  # the first two touch at a corner
        maps = (rng.random((side, side)) * 0.8 + mask * 0.2) * gain
        pixels.add(maps.clip(0, 1).astype(np.float32), mask)
    return pixels


def test_regions_touching_at_a_corner_are_one() -> None:
    assert filled(0, images=2).regions == 2


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), gain=st.sampled_from([1e-6, 0.1, 1.0, 1.3]))
def test_folding_changes_the_metrics_by_no_more_than_the_bound(seed: int, gain: float) -> None:
    exact, folded = filled(seed, gain=gain), filled(seed, gain=gain)
    folded.fold()
    bounds = folded.errors()
    one, other = exact.curve(), folded.curve()
    assert not exact.errors()
    assert abs(one.auroc - other.auroc) <= bounds["AUROC"] + 1e-12
    assert abs(one.average_precision - other.average_precision) <= bounds["AP"] + 1e-12
    assert abs(one.f1_max - other.f1_max) <= bounds["F1Max"] + 1e-12
    assert abs(one.aupro - other.aupro) <= bounds["AUPRO"] + 1e-12
    assert abs(one.aupro_200 - other.aupro_200) <= bounds["AUPRO_200"] + 1e-12
    assert bounds["AUROC"] < 1e-3


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([0.3, 0.01, 0.001]), low=st.sampled_from([0.0, 0.2]))
def test_a_sweep_over_bins_of_any_width_stays_within_its_bound(seed: int, width: float, low: float) -> None:
    rng = np.random.default_rng(seed)
    scores = (low + (1 - low) * rng.random(300)).astype(np.float32)
    areas = np.where(rng.random(300) < 0.3 * scores, rng.integers(1, 40, 300), 0)
    floors = np.float32(np.floor(scores / width) * width).clip(max=scores)
    exact, binned = (curve_of(pack(values, areas), int((areas > 0).sum()), 9) for values in (scores, floors))
    found = np.unique(floors)[::-1]
    tops = np.array([scores[floors == floor].max() for floor in found])
    normal, anomalous = ([((floors == floor) & chosen).sum() for floor in found] for chosen in (areas == 0, areas > 0))
    overlap = [(1 / areas[(floors == floor) & (areas > 0)]).sum() for floor in found]
    bound = sweep_error(Increments(found, np.array([normal, anomalous, overlap], np.float64)), tops, 9)
    assert np.isnan([exact.aupro_200, binned.aupro_200]).any() or abs(exact.aupro_200 - binned.aupro_200) <= bound


def test_the_bound_of_a_sweep_is_small_where_bins_are_fine() -> None:
    pixels = filled(3, images=8, side=200)
    pixels.fold()
    assert pixels.errors()["AUPRO_200"] < 5e-3


def test_images_after_folding_are_counted_like_those_before() -> None:
    early, late = PixelScores(), PixelScores()
    early.fold()
    rng = np.random.default_rng(0)
    for image in range(4):
        maps = rng.random((30, 30), dtype=np.float32)
        mask = np.zeros((30, 30), bool)
        mask[:4, :4] = image % 2
        early.add(maps, mask)
        late.add(maps, mask)
    late.fold()
    assert early.curve().aupro == late.curve().aupro
    assert early.errors() == late.errors()


def test_the_largest_category_is_folded_first_and_small_ones_never() -> None:
    small, large = filled(0, images=2), filled(1, images=2, side=800)
    fold_to_fit([small, large], small.nbytes + large.nbytes)
    assert not large.binned
    fold_to_fit([small, large], limit=0)
    assert large.binned
    assert not small.binned


@given(scores=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
def test_bins_are_monotone_and_begin_at_their_floor(scores: list[float]) -> None:
    values = torch.tensor(sorted(scores))
    bins = bin_of(values)
    floors = bin_floors()
    assert (bins.diff() >= 0).all()
    assert bins.min() >= 0
    assert bins.max() < BINS
    assert (floors[bins] <= values).all()
    above = bins < BINS - 1
    assert (values[above] <= floors[bins[above] + 1]).all()


@pytest.mark.parametrize("centre", [1e-6, 0.01, 0.3, 0.7, 0.99, 0.999])
def test_bins_are_narrow_in_proportion_to_the_distance_from_the_nearer_end(centre: float) -> None:
    distance = min(centre, 1 - centre)
    values = torch.tensor([centre - distance / 1000, centre + distance / 1000], dtype=torch.float64).float()
    assert bin_of(values).diff() > 0


def test_the_ends_have_bins_of_their_own() -> None:
    values: NDArray[np.float32] = np.float32([0, 1e-6, 1 - 1e-6, 1])
    assert bin_of(torch.from_numpy(values))[[0, -1]].tolist() == [0, BINS - 1]
    assert len(set(bin_of(torch.from_numpy(values)).tolist())) == 4


def test_scores_that_are_truly_tied_add_no_error() -> None:
    pixels = PixelScores()
    rng = np.random.default_rng(0)
    pixels.add((rng.random((64, 64)) > 0.5).astype(np.float32), rng.random((64, 64)) > 0.8)
    exact = pixels.curve()
    pixels.fold()
    assert set(pixels.errors().values()) == {0.0}
    assert pixels.curve().auroc == exact.auroc
