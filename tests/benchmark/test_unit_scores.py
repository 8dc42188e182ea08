import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad.benchmark.unit_scores import unit


@given(st.lists(st.floats(0, 1e4, width=32), min_size=2, max_size=20))
def test_the_order_of_scores_stays(scores):
    raw = torch.tensor(scores)
    got = unit(raw, "Model")
    assert ((got >= 0) & (got < 1)).all()
    assert (got[raw.argsort()].diff() >= 0).all()


def test_clearly_different_scores_stay_different():
    raw = torch.linspace(0, 100, 10001)
    assert len(unit(raw, "Model").unique()) == 10001


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
def test_scores_without_a_place_are_refused(bad):
    with pytest.raises(ValueError, match="Model: expected finite raw scores of at least 0"):
        unit(torch.tensor([0.1, bad]), "Model")
