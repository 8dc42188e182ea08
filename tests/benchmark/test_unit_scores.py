from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad.benchmark.unit_scores import UnitScores, signed_unit, unit


@given(st.lists(st.floats(0, 1e4, width=32), min_size=2, max_size=20))
def test_the_order_of_scores_stays(scores):
    raw = torch.tensor(scores)
    got = unit(raw, "Model")
    assert ((got >= 0) & (got < 1)).all()
    assert (got[raw.argsort()].diff() >= 0).all()


def test_clearly_different_scores_stay_different():
    raw = torch.linspace(0, 100, 10001)
    assert len(unit(raw, "Model").unique()) == 10001


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=20))
def test_the_order_of_signed_scores_stays(scores):
    raw = torch.tensor(scores)
    got = signed_unit(raw, "Model")
    assert ((got > 0) & (got < 1)).all()
    assert (got[raw.argsort()].diff() >= 0).all()


def test_clearly_different_signed_scores_stay_different():
    assert len(signed_unit(torch.linspace(-1, 0, 10001), "Model").unique()) == 10001


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
def test_scores_without_a_place_are_refused(bad):
    with pytest.raises(ValueError, match=r"Model: expected finite raw scores of at least 0.*signed_scores: true"):
        unit(torch.tensor([0.1, bad]), "Model")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_signed_scores_without_a_place_are_refused(bad):
    with pytest.raises(ValueError, match="Model: expected finite raw scores, got"):
        signed_unit(torch.tensor([-0.1, bad]), "Model")


def test_maps_below_zero_are_taken_where_they_are_said_to_be_signed():
    raw = torch.tensor([[[-1.0, -0.5], [-0.25, 0.0]]])
    outputs = SimpleNamespace(pred_score=None, anomaly_map=raw)
    UnitScores(signed=True).on_test_batch_end(None, torch.nn.Identity(), outputs, None, 0)
    assert outputs.anomaly_map.flatten().tolist() == pytest.approx([0.25, 1 / 3, 0.4, 0.5])
    assert outputs.pred_score.item() == 0.5
    with pytest.raises(ValueError, match="signed_scores: true"):
        UnitScores().on_test_batch_end(
            None, torch.nn.Identity(), SimpleNamespace(pred_score=None, anomaly_map=raw), None, 0
        )
