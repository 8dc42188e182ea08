from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from anomalib_zsad.functional.conformal import conformal_threshold, least_images, least_rate, p_values

scores = st.lists(st.integers(0, 12).map(lambda level: level / 12), min_size=1, max_size=60)  # ties are frequent
rates = st.integers(1, 99).map(lambda percent: percent / 100)


@given(scores, rates)
def test_of_exchangeable_scores_at_most_the_promised_share_exceeds_the_threshold_of_the_others(
    values: list[float], rate: float
) -> None:
    """Every score is equally likely to be the new one: the mean over all of them is the probability, without chance."""
    if len(values) - 1 < least_images(rate):
        return
    alarms = [value > conformal_threshold(values[:i] + values[i + 1 :], rate) for i, value in enumerate(values)]
    assert Fraction(sum(alarms), len(values)) <= Fraction(str(rate))


@given(st.integers(2, 60), rates)
def test_without_ties_no_promise_is_wasted(n: int, rate: float) -> None:
    """Fewer alarms by less than one in n + 1: no lower threshold keeps the promise."""
    values = [float(i) for i in range(n + 1)]
    if n < least_images(rate):
        return
    alarms = sum(value > conformal_threshold(values[:i] + values[i + 1 :], rate) for i, value in enumerate(values))
    assert Fraction(str(rate)) - Fraction(1, n + 1) < Fraction(alarms, n + 1)


@given(scores, rates, st.lists(st.floats(-1, 2), min_size=1, max_size=9))
def test_a_p_value_is_at_most_the_rate_where_the_score_exceeds_the_threshold(
    values: list[float], rate: float, new: list[float]
) -> None:
    if len(values) < least_images(rate):
        return
    below = np.round(p_values(new + values, values) * (len(values) + 1)) <= np.floor(
        float(Fraction(str(rate)) * (len(values) + 1))
    )
    assert (below == (np.array(new + values) > conformal_threshold(values, rate))).all()


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_promise_holds_over_many_draws(rate: float) -> None:
    draws, n = 4000, 40
    drawn = np.random.default_rng(0).beta(2, 5, (draws, n + 1))
    alarms = sum(row[0] > conformal_threshold(row[1:], rate) for row in drawn)
    assert binom.cdf(alarms, draws, rate) < 0.999
    assert binom.sf(alarms, draws, rate - 1 / (n + 1)) < 0.999


@pytest.mark.parametrize(("rate", "images"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.3, 3)])
def test_the_least_number_of_images(rate: float, images: int) -> None:
    assert least_images(rate) == images
    conformal_threshold(range(images), rate)
    with pytest.raises(ValueError, match=rf"at least {images} normal images, got {images - 1}"):
        conformal_threshold(range(images - 1), rate)
    assert least_rate(images) <= rate < least_rate(images - 1)


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ValueError, match="expected a rate between 0 and 1"):
        conformal_threshold([0.5], rate)


@pytest.mark.parametrize("values", [[], [0.1, float("nan")]])
def test_scores_that_are_none(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected scores of normal images"):
        p_values([0.5], values)
