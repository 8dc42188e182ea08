"""Wavelet-enhanced cross-attention and the patches it looks at."""

import pytest
import torch

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.wmoe_clip.adapter import PatchProjections, WaveletCrossAttention
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.gate import FrequencyGate, TokenNorm
from tests.support.contract import images
from tests.support.small_clip import IMAGE_SIZE

D = 8


@pytest.fixture
def patches():
    return torch.randn(2, 5, 7, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def text():
    return torch.randn(2, 2, D, generator=torch.Generator().manual_seed(1))


class Constant(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x, self.value)


@torch.no_grad()
def test_the_limits_of_the_gate(patches, text):
    attention = WaveletCrossAttention(D)
    low, _ = attention.bands(patches)
    gate = attention.gate
    for closed in (0.0, 1.0):
        attention.gate = Constant(closed)
        torch.testing.assert_close(attention(patches, text).patches, patches if closed else low)
    attention.gate = gate
    for linear in (gate.whole, gate.outer):
        linear.weight.zero_()
        linear.bias.zero_()
    torch.testing.assert_close(attention(patches, text).patches, (patches + low) / 2)


@torch.no_grad()
def test_the_gate_sees_the_whole_image_and_its_own_patch(patches):
    gate = FrequencyGate(D)
    weights = gate(patches)
    assert weights.shape == patches.shape
    assert 0 < weights.min() < weights.max() < 1
    moved = patches.clone()
    moved[0, 4, 6] += 5
    assert not torch.isclose(gate(moved)[0, 0, 0], weights[0, 0, 0]).all()
    assert torch.equal(gate(moved)[1], weights[1])
    gate.outer.weight.zero_()
    assert (gate(patches) - gate(patches)[:, :1, :1]).abs().max() < 1e-6
    gate = FrequencyGate(D)
    gate.whole.weight.zero_()
    changed = (gate(moved) - gate(patches)).abs().amax(-1) > 0
    assert changed.nonzero().tolist() == [[0, 4, 6]]


def test_a_gate_with_batch_normalisation_normalises_what_its_linear_maps_give(patches):
    gate = FrequencyGate(D, WMoEChoices(gate_reduction=2, gate_bn=True))
    sizes = {"whole": (2, 1, 1, D), "inner": (2, 5, 7, D // 2), "outer": (2, 5, 7, D)}
    for name, size in sizes.items():
        given = []
        getattr(gate, f"{name}_norm").register_forward_hook(lambda _, x, y, given=given: given.extend([*x, y]))
        gate(patches)
        before, after = given
        assert before.shape == after.shape == size
        expected = (before - before.mean((0, 1, 2))) / (before.var((0, 1, 2), correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(after, expected)
    gate.eval()
    torch.testing.assert_close(gate(patches)[:1], gate(patches[:1]))


def test_a_single_token_is_normalised_by_what_was_seen_before():
    norm = TokenNorm(D)
    norm(torch.randn(9, D))
    token = torch.randn(1, 1, 1, D, requires_grad=True)
    alone = norm(token)
    alone.square().sum().backward()
    assert token.grad.abs().min() > 0
    assert norm.norm.weight.grad.abs().min() > 0
    assert norm.norm.num_batches_tracked == 1
    assert torch.equal(norm.eval()(token), alone)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_that_of_its_equation(patches, text, heads):
    attention = WaveletCrossAttention(D, WMoEChoices(wcma_heads=heads))
    tokens = patches.flatten(1, 2)
    refined, weights = attention.attend(tokens, text)
    query, key, value = attention.to_q(text), attention.to_k(tokens), attention.to_v(tokens)
    for head in range(heads):
        own = slice(head * D // heads, (head + 1) * D // heads)
        scores = query[..., own] @ key[..., own].transpose(1, 2) / (D / heads) ** 0.5
        torch.testing.assert_close(weights.unflatten(1, (2, heads))[:, :, head], scores.softmax(-1))
        torch.testing.assert_close(refined[..., own], scores.softmax(-1) @ value[..., own])
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2 * heads))
    assert weights.shape[-1] == 35
    assert (refined <= value.amax(1, keepdim=True) + 1e-6).all()
    assert (refined >= value.amin(1, keepdim=True) - 1e-6).all()


@torch.no_grad()
def test_the_order_of_patches_does_not_matter_and_equal_patches_say_nothing(patches, text):
    attention = WaveletCrossAttention(D)
    tokens = patches.flatten(1, 2)
    torch.testing.assert_close(attention.attend(tokens.flip(1), text)[0], attention.attend(tokens, text)[0])
    refined, _ = attention.attend(tokens[:, :1].expand(-1, 35, -1), text)
    torch.testing.assert_close(refined[:, 0], refined[:, 1])  # both states alike: the map is 0.5 everywhere


@torch.no_grad()
def test_a_residual_adds_the_text(patches, text):
    torch.manual_seed(0)
    plain = WaveletCrossAttention(D)
    torch.manual_seed(0)
    residual = WaveletCrossAttention(D, WMoEChoices(wcma_residual=True))
    torch.testing.assert_close(residual(patches, text).text, text + plain(patches, text).text)


@torch.no_grad()
def test_projections_start_as_those_of_clip(small_clip):
    clip = FrozenClip.load(pretrained=small_clip, image_size=IMAGE_SIZE)
    (tap,) = clip.encode_patches(images(1), [2])
    expected = clip.project(tap)
    for kind in ("linear", "clip"):
        projections = PatchProjections(clip, 4, WMoEChoices(patch_projection=kind))
        torch.testing.assert_close(projections(clip, 1, tap), expected)
        assert len(list(projections.parameters())) == (8 if kind == "linear" else 0)
    drawn = PatchProjections(clip, 4, WMoEChoices(patch_projection_init="xavier"))
    assert not torch.allclose(drawn(clip, 1, tap), expected)
    without = PatchProjections(clip, 4, WMoEChoices(patch_ln_post=False))(clip, 1, tap)
    torch.testing.assert_close(without, tap @ clip.projection)
