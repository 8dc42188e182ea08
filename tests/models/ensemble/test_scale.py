import numpy as np
import pytest
import torch

from anomalib_zsad.models.ensemble.scale import ScoreScale, sums_of, to_unit


def fitted(*members):
    scale = ScoreScale(len(members))
    scale.fit(torch.stack([sums_of(None if scores is None else torch.tensor(scores)) for scores in members]))
    return scale


def test_is_the_mean_and_deviation_of_all_values_however_they_come():
    generator = np.random.default_rng(0)
    values = torch.from_numpy(1000 + 0.01 * generator.standard_normal((7, 50)))
    scale = ScoreScale(1)
    scale.fit(torch.stack([sums_of(part) for part in values.split(3)]).sum(0)[None])
    assert scale.mean.item() == pytest.approx(values.mean().item(), rel=1e-7)
    assert scale.deviation.item() == pytest.approx(values.std(correction=0).item(), rel=1e-3)


def test_brings_members_of_any_unit_together():
    scale = fitted([1.0, 2.0, 3.0], [100.0, 200.0, 300.0])
    first, second = scale(torch.tensor([0.0, 4.0]), 0), scale(torch.tensor([0.0, 400.0]), 1)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, torch.tensor([-2.0, 2.0]) / (2 / 3) ** 0.5)


def test_scores_that_are_all_the_same_keep_their_unit():
    scale = fitted([0.3] * 1000)
    torch.testing.assert_close(scale(torch.tensor([0.3, 0.5]), 0), torch.tensor([0.0, 0.2]))


def test_nothing_is_known_before_nor_of_what_was_not_there():
    assert ScoreScale(2).mean.isnan().all()
    assert fitted([1.0, 2.0], None).mean.isnan().tolist() == [False, True]


def test_any_number_comes_into_the_unit_interval_in_its_order():
    z = torch.cat([-torch.logspace(3, -4, 400), torch.zeros(1), torch.logspace(-4, 3, 400)])
    unit = to_unit(z)
    assert (unit.diff() > 0).all()
    assert 0 < unit.min() < unit.max() < 1
    assert to_unit(torch.zeros(())) == 0.5
    torch.testing.assert_close(unit, 1 - unit.flip(0), atol=1e-7, rtol=0)
