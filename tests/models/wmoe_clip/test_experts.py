"""The router, the experts and their context."""

import math

import pytest
import torch

from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.experts import LayerContext, Routed, SemanticExperts, load_balance

D, L = 16, 4


def experts(top_k=2, **choices):
    torch.manual_seed(0)
    mixture = SemanticExperts(D, LayerContext(D, L), top_k=top_k, choices=WMoEChoices(expert_hidden=6, **choices))
    mixture.router.weight.data.mul_(50)  # clear choices
    return mixture


@pytest.fixture
def pooled():
    return torch.randn(5, L, D, generator=torch.Generator().manual_seed(3))


def slow_expert(mixture, expert, context):
    hidden = torch.nn.functional.gelu(context @ mixture.inner[expert] + mixture.inner_bias[expert])
    return hidden @ mixture.outer[expert] + mixture.outer_bias[expert]


def test_weights_are_those_of_the_chosen_alone(pooled):
    routed = experts()(pooled)
    assert ((routed.weights == 0).sum(1) == 6).all()
    torch.testing.assert_close(routed.weights.sum(1), torch.ones(5))
    full = routed.logits.softmax(-1) * (routed.weights > 0)
    torch.testing.assert_close(routed.weights, full / full.sum(1, keepdim=True))
    largest = routed.logits.topk(2).indices.sort().values
    assert torch.equal(routed.weights.nonzero()[:, 1].view(5, 2), largest)


@torch.no_grad()
@pytest.mark.parametrize("top_k", [1, 2, 8])
def test_the_mixture_is_the_sum_of_its_experts(pooled, top_k):
    mixture = experts(top_k=top_k)
    routed, context = mixture(pooled), mixture.context(pooled)
    for image in range(5):
        probabilities = routed.logits[image].softmax(-1)
        chosen = probabilities.topk(top_k).indices.tolist()
        total = 1 if top_k == 1 else probabilities[chosen].sum()  # a single one keeps its share of all
        slow = sum(probabilities[e] / total * slow_expert(mixture, e, context[image]) for e in chosen)
        torch.testing.assert_close(routed.mix[image], slow)


@pytest.mark.parametrize("top_k", [1, 2])
def test_only_what_is_chosen_learns(pooled, top_k):
    mixture = experts(top_k=top_k)
    routed = mixture(pooled[:1])
    routed.mix.square().sum().backward()
    unused = routed.weights[0] == 0
    for parameter in (mixture.inner, mixture.inner_bias, mixture.outer, mixture.outer_bias):
        assert (parameter.grad[unused] == 0).all()
        assert (parameter.grad[~unused].flatten(1).abs().amax(1) > 0).all()
    assert mixture.router.weight.grad.abs().max() > 0
    with torch.no_grad():
        mixture.inner[unused] += 7
        mixture.outer_bias[unused] -= 3
    assert torch.equal(mixture(pooled[:1]).mix, routed.mix)


def test_noise_is_scaled_for_each_expert_and_learns_its_scale(pooled):
    plain, noisy = experts(), experts(gate_noise=True)
    assert torch.equal(noisy(pooled).mix, plain(pooled).mix)
    drawn = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(noisy(pooled, drawn).logits, plain(pooled).logits + math.log(2) * drawn)  # at its start
    noisy.noise_weight.data.normal_()
    scale = torch.log1p(torch.exp(noisy.context(pooled) @ noisy.noise_weight))
    routed = noisy(pooled, drawn)
    torch.testing.assert_close(routed.logits, plain(pooled).logits + scale * drawn)
    torch.testing.assert_close(routed.weights, noisy.route(routed.logits))
    routed.mix.square().sum().backward()
    assert noisy.noise_weight.grad.abs().max() > 0


@torch.no_grad()
def test_experts_have_no_order(pooled):
    mixture, order = experts(), torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    before = mixture(pooled).mix
    for parameter in (
        *mixture.router.parameters(),
        mixture.inner,
        mixture.inner_bias,
        mixture.outer,
        mixture.outer_bias,
    ):
        parameter.copy_(parameter[order].clone())
    torch.testing.assert_close(mixture(pooled).mix, before)


@torch.no_grad()
def test_each_share_of_the_context_is_that_of_one_layer(pooled):
    context = LayerContext(D, L)
    before = context(pooled)
    for layer in range(L):
        moved = pooled.clone()
        moved[:, layer] += 1
        changed = (context(moved) - before).abs().amax(0) > 1e-6
        assert changed.nonzero().flatten().tolist() == list(range(layer * D // L, (layer + 1) * D // L))
    whole = LayerContext(D, L, WMoEChoices(moe_adapter="concat"))
    expected = pooled.flatten(1) @ whole.linears[0].weight.T + whole.linears[0].bias
    torch.testing.assert_close(whole(pooled), expected)


@torch.no_grad()
def test_pooling_and_the_adapter_commute():
    context, patches = LayerContext(D, L), torch.randn(2, L, 9, D)
    slow = torch.cat([linear(patches[:, i]).mean(1) for i, linear in enumerate(context.linears)], dim=-1)
    torch.testing.assert_close(context(patches.mean(2)), slow)


def test_the_balance_is_one_where_all_are_used_alike():
    even = torch.eye(8)
    assert load_balance(Routed(even, torch.zeros(8, 8), even)).item() == pytest.approx(1)
    one = torch.zeros(8, 8)
    one[:, 0] = 1
    logits = (50 * one).requires_grad_()
    collapsed = load_balance(Routed(one, logits, one))
    assert collapsed.item() == pytest.approx(8)
    softer = (0.5 * one).requires_grad_()
    load_balance(Routed(one, softer, one)).backward()
    assert (softer.grad[:, 0] > 0).all()  # less of what is used by all


@pytest.mark.parametrize("top_k", [0, 9])
def test_more_than_there_are_is_refused(top_k):
    with pytest.raises(ValueError, match=f"top_k must lie between 1 and n_experts = 8, got {top_k}"):
        experts(top_k=top_k)


def test_a_context_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="needs a number of feature_layers that divides the joint width 16, got 3"):
        LayerContext(16, 3)
