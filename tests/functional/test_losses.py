import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from anomalib_zsad.functional.losses import binary_focal_loss, masked_alignment


@pytest.mark.parametrize("gamma", [0.0, 2.0, 4.0])
def test_focal_loss_is_torchvisions_without_class_weights(gamma):
    log_odds, target = torch.randn(3, 5), torch.randint(0, 3, (3, 5)).float() / 2
    expected = sigmoid_focal_loss(log_odds, target, alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(binary_focal_loss(log_odds, target, gamma), expected)


def test_focal_loss_stays_finite_where_probabilities_saturate():
    log_odds = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = binary_focal_loss(log_odds, torch.tensor([1.0, 0.0]), 4.0)
    loss.backward()
    assert loss.isfinite()
    assert log_odds.grad.isfinite().all()


def align_slowly(tokens, target):
    """Every ordered pair of patches of an image, one by one."""
    gaps = []
    for features in tokens:
        alike, unlike = [], []
        for image, kinds in zip(features, target, strict=True):
            for a, kind_a in zip(image, kinds, strict=True):
                for b, kind_b in zip(image, kinds, strict=True):
                    (alike if kind_a == kind_b else unlike).append(a @ b)
        gaps.append(F.relu(torch.stack(unlike).mean() - torch.stack(alike).mean()) if unlike else torch.tensor(0.0))
    return torch.stack(gaps).mean()


def sums(tokens, target):
    anomalous = torch.einsum("kbnd,bn->kbd", tokens, target)
    return tokens.sum(2) - anomalous, anomalous, (1 - target).sum(1), target.sum(1)


@given(seed=st.integers(0, 999), anomalous=st.floats(0.0, 1.0))
@settings(max_examples=25)
def test_alignment_is_the_mean_over_pairs(seed, anomalous):
    generator = torch.Generator().manual_seed(seed)
    tokens = F.normalize(torch.randn(2, 3, 5, 4, generator=generator), dim=-1)
    target = (torch.rand(3, 5, generator=generator) < anomalous).float()
    expected = align_slowly(tokens, target) if 0 < target.sum() < target.numel() else torch.tensor(0.0)
    torch.testing.assert_close(masked_alignment(*sums(tokens, target)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_alignment_of_one_kind_alone_is_zero_with_zero_gradient(kind):
    tokens = F.normalize(torch.randn(2, 3, 5, 4), dim=-1).requires_grad_()
    loss = masked_alignment(*sums(tokens, torch.full((3, 5), kind)))
    loss.backward()
    assert loss == 0
    assert tokens.grad.abs().max() == 0
