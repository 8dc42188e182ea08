import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anomalib_zsad.functional.tiling import blend, window_shares, window_starts

few = settings(max_examples=25, derandomize=True)
SIDES = st.integers(1, 40).flatmap(
    lambda window: st.tuples(st.integers(window, 120), st.just(window), st.integers(1, window))
)
"""Side, window and stride."""


@few
@given(SIDES)
@example((1554, 518, 388))
@example((100, 30, 30))
@example((30, 30, 30))
def test_windows_cover_a_side_from_end_to_end(sides):
    side, window, stride = sides
    starts = window_starts(side, window, stride)
    assert starts[0] == 0
    assert starts[-1] == side - window
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= stride).all()
    assert len(starts) == 1 or np.ptp(steps) <= 1
    assert (len(starts) - 2) * stride < side - window or len(starts) == 1  # one fewer would not reach


@few
@given(SIDES)
def test_shares_sum_to_one_at_every_pixel_and_end_softly(sides):
    side, window, stride = sides
    starts = window_starts(side, window, stride)
    shares = window_shares(starts, window, side)
    torch.testing.assert_close(shares.sum(0), torch.ones(side))
    assert (shares >= 0).all()
    for start, share in zip(starts, shares, strict=True):
        assert not share[:start].any()
        assert not share[start + window :].any()
        assert share[start : start + window].all()


@pytest.mark.parametrize(("size", "window", "stride"), [((50, 37), (16, 16), (12, 12)), ((16, 40), (16, 10), (8, 10))])
def test_it_is_the_weighted_mean_of_the_windows_that_see_a_pixel(size, window, stride):
    rows, columns = (window_starts(*each) for each in zip(size, window, stride, strict=True))
    maps = torch.rand(len(rows) * len(columns), 2, *window, generator=torch.Generator().manual_seed(0))
    above, below = np.zeros((2, *size)), np.zeros(size)
    for (top, left), each in zip(((r, c) for r in rows for c in columns), maps.numpy(), strict=True):
        for i in range(window[0]):
            for j in range(window[1]):
                weight = min(i + 1, window[0] - i) * min(j + 1, window[1] - j)
                above[:, top + i, left + j] += weight * each[:, i, j]
                below[top + i, left + j] += weight
    np.testing.assert_allclose(blend(list(maps), rows, columns, size), above / below, rtol=1e-5)


@few
@given(st.tuples(SIDES, SIDES), st.floats(0, 1, width=32))
def test_a_constant_map_stays_constant(sides, value):
    starts = [window_starts(*each) for each in sides]
    maps = [torch.full((1, sides[0][1], sides[1][1]), value)] * (len(starts[0]) * len(starts[1]))
    size = (sides[0][0], sides[1][0])
    torch.testing.assert_close(blend(maps, *starts, size), torch.full((1, *size), value))


def test_there_are_no_seams():
    """Windows that differ by a constant give a ramp between them, not a step."""
    starts = window_starts(40, 20, 10)
    row = blend([torch.full((1, 1, 20), float(i)) for i in range(3)], [0], starts, (1, 40)).flatten()
    assert row[0] == 0
    assert row[-1] == 2
    assert (row.diff() >= 0).all()
    assert row.diff().max() < 0.2
