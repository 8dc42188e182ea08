"""Class Token Distribution Sampling and the prompts made of it."""

import open_clip
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.loss import divergence, reconstruction
from anomalib_zsad.models.wmoe_clip.sampler import ClassTokenSampler, Sample, SampledPrompts
from tests.models.wmoe_clip.building import noise
from tests.support.small_clip import IMAGE_SIZE

STATES = ("a photo of a good", "a photo of a damaged")


@pytest.fixture(scope="module")
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=IMAGE_SIZE)


@pytest.fixture
def prompts(clip):
    return SampledPrompts(clip, STATES)


@pytest.fixture
def token():
    return torch.randn(3, 64, generator=torch.Generator().manual_seed(5))


def sample_of(mean, log_variance):
    return Sample(mean, mean, log_variance, mean[:, None], mean[:, None])


def test_the_divergence_is_that_of_torch():
    zero = torch.zeros(2, 64)
    assert divergence(sample_of(zero, zero)).sum() == 0
    mean, log_variance = torch.randn(2, 64), torch.randn(2, 64)
    theirs = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1))
    torch.testing.assert_close(divergence(sample_of(mean, log_variance)), theirs)
    assert (theirs >= 0).all()


def test_samples_differ_and_the_mean_does_not(token):
    sampler = ClassTokenSampler(64, WMoEChoices(vae_hidden=32))
    drawn, again = sampler(token, noise()), sampler(token, noise(seed=1))
    assert not torch.allclose(drawn.decoded[:, 0], drawn.decoded[:, 1])
    assert not torch.allclose(drawn.decoded, again.decoded)
    assert torch.equal(sampler(token).decoded, sampler(token).decoded)
    torch.testing.assert_close(sampler(token, torch.zeros(3, 2, 64)).decoded[:, 1], sampler(token).decoded[:, 0])
    expected = drawn.mean[:, None] + noise() * (drawn.log_variance / 2).exp()[:, None]
    torch.testing.assert_close(drawn.latent, expected)


def test_the_variance_learns_from_the_reconstruction(token):
    sampler = ClassTokenSampler(64, WMoEChoices(vae_hidden=32))
    reconstruction(sampler(token, noise())).mean().backward()
    assert sampler.log_variance.weight.grad.abs().max() > 0


def test_reconstruction_is_a_squared_distance(token):
    sample = ClassTokenSampler(64, WMoEChoices(vae_hidden=32))(token, noise())
    assert reconstruction(sample._replace(decoded=token[:, None].expand(-1, 2, -1))).abs().max() == 0
    off = [sample._replace(decoded=token[:, None] + scale * noise()) for scale in (1, 3)]
    torch.testing.assert_close(reconstruction(off[1]), 9 * reconstruction(off[0]), rtol=1e-4, atol=0)
    assert reconstruction(off[0]).shape == (3, 2)


def test_what_stands_where(clip, prompts):
    drawn = noise()
    words = prompts.embed(drawn)
    assert words.shape == (3, 2, 9, 64)
    assert prompts.end.tolist() == [8, 8]
    for state, text in enumerate(STATES):
        frozen = clip.embed_tokens(open_clip.tokenize([text]))[0]
        for image in range(3):
            torch.testing.assert_close(words[image, state, :6], frozen[:6])
            torch.testing.assert_close(words[image, state, 8], frozen[6])
            torch.testing.assert_close(words[image, state, 6:8], drawn[image] + prompts.vectors[state])


def test_states_of_different_lengths(clip):
    prompts = SampledPrompts(clip, ("a good", "a photo of a badly damaged"))
    words = prompts.embed(noise())
    short, long = prompts.end.tolist()
    assert short < long == words.shape[2] - 1
    torch.testing.assert_close(words[0, 0, short - 2 : short], noise()[0] + prompts.vectors[0])
    alone = SampledPrompts(clip, ("a good", "a good"))
    alone.vectors.data.copy_(prompts.vectors.data)
    torch.testing.assert_close(prompts(clip, noise())[:, 0], alone(clip, noise())[:, 0], atol=1e-5, rtol=1e-5)


def test_nine_positions_say_what_all_do(clip, prompts):
    words = prompts.embed(noise())
    rest = clip.embed_tokens(torch.zeros(1, 68, dtype=torch.long)).expand(6, -1, -1)
    whole = clip.encode_text(torch.cat([words.flatten(0, 1), rest], dim=1), torch.full((6,), 8))
    torch.testing.assert_close(prompts(clip, noise()).flatten(0, 1), whole, atol=1e-5, rtol=1e-5)


def test_images_change_their_own_text(clip, prompts):
    drawn = noise()
    text = prompts(clip, drawn)
    assert text.shape == (3, 2, 64)
    assert not torch.allclose(text[0], text[1], atol=1e-2)
    torch.testing.assert_close(prompts(clip, drawn[[0, 0]])[1], text[0])
    assert prompts(clip).shape == (1, 2, 64)
    prompts.vectors.data[1] = prompts.vectors.data[0]
    assert not torch.allclose(prompts(clip, drawn)[:, 0], prompts(clip, drawn)[:, 1], atol=1e-2)


@pytest.mark.parametrize("length", [0, 71])
def test_lengths_that_do_not_fit_are_refused(clip, length):
    with pytest.raises(ValueError, match=f"prompt_length must lie between 1 and 70 .* got {length}"):
        SampledPrompts(clip, STATES, length)
