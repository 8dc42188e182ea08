"""FrozenClip against open_clip's own forward, and what it promises of itself."""

import logging

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.clip.loading import fingerprint
from tests.support.small_clip import ARCHITECTURE, IMAGE_SIZE, small_clip_state

TRAINED_SIZE = ARCHITECTURE["vision_cfg"]["image_size"]


@pytest.fixture(scope="module")
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=TRAINED_SIZE)


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def pair(request, small_clip):
    ours = FrozenClip.load(pretrained=small_clip, image_size=TRAINED_SIZE, activation=request.param)
    theirs = open_clip.CLIP(**ARCHITECTURE, quick_gelu=request.param == "quick_gelu").eval()
    theirs.load_state_dict(small_clip_state())
    return ours, theirs


@torch.no_grad()
def test_image_features_are_those_of_open_clip(pair):
    ours, theirs = pair
    images = torch.randn(2, 3, TRAINED_SIZE, TRAINED_SIZE)
    (tokens,) = ours.encode_patches(images, [ours.n_blocks])
    torch.testing.assert_close(ours.project(tokens[:, 0]), theirs.encode_image(images), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_text_features_are_those_of_open_clip(pair):
    ours, theirs = pair
    tokens = ours.tokenize(["a photo of a bottle.", "a scratch"])
    assert torch.equal(tokens, open_clip.tokenize(["a photo of a bottle.", "a scratch"]))
    end = tokens.argmax(-1)
    whole = ours.encode_text(ours.embed_tokens(tokens), end)
    torch.testing.assert_close(whole, theirs.encode_text(tokens), atol=1e-5, rtol=1e-5)
    short = ours.encode_text(ours.embed_tokens(tokens[:, : int(end.max()) + 1]), end)
    torch.testing.assert_close(short, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_taps_come_in_the_order_asked_for(clip):
    images = torch.randn(1, 3, TRAINED_SIZE, TRAINED_SIZE)
    third, first = clip.encode_patches(images, [3, 1])
    assert torch.equal(first, clip.encode_patches(images, [1])[0])
    assert torch.equal(third, clip.encode_patches(images, [3])[0])
    assert not torch.equal(first, third)


@torch.no_grad()
def test_an_edit_replaces_what_later_blocks_see(clip):
    images = torch.randn(1, 3, TRAINED_SIZE, TRAINED_SIZE)
    seen = []

    def edit(block, tokens):
        seen.append(block)
        return torch.zeros_like(tokens) if block == 2 else tokens

    plain = clip.encode_patches(images, [1, 2, 3])
    edited = clip.encode_patches(images, [1, 2, 3], edit)
    assert seen == [1, 2, 3]
    assert torch.equal(plain[0], edited[0])
    assert edited[1].abs().max() == 0
    assert not torch.equal(plain[2], edited[2])


def test_gradients_pass_through_frozen_blocks(clip):
    shift = torch.zeros(clip.vision_width, requires_grad=True)
    images = torch.randn(1, 3, TRAINED_SIZE, TRAINED_SIZE)
    (tokens,) = clip.encode_patches(images, [4], lambda block, x: x + shift if block == 1 else x)
    tokens.square().sum().backward()
    assert shift.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in clip.parameters())


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("bilinear", {"mode": "bilinear"}),
        ("bicubic_antialias", {"mode": "bicubic", "antialias": True}),
    ],
)
def test_positions_are_resized_as_asked(small_clip, how, options):
    embedding = small_clip_state()["visual.positional_embedding"]
    ours = FrozenClip.load(pretrained=small_clip, image_size=(28, 70), position_resize=how).positions
    grid = embedding[1:].reshape(1, 3, 3, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(2, 5), align_corners=False, **options).permute(0, 2, 3, 1).reshape(10, -1)
    torch.testing.assert_close(ours, torch.cat([embedding[:1], resized]))


@pytest.mark.parametrize("name", ["activation", "position_resize"])
def test_a_choice_that_there_is_not_is_refused(small_clip, name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'bicubic'"):
        FrozenClip.load(pretrained=small_clip, image_size=28, **{name: "bicubic"})


def test_models_share_one_set_of_weights(small_clip):
    first = FrozenClip.load(pretrained=small_clip, image_size=28, activation="gelu")
    second = FrozenClip.load(pretrained=small_clip, image_size=IMAGE_SIZE)
    assert first.clip is second.clip
    assert first.identity["fingerprint"] == second.identity["fingerprint"]
    assert first.identity["activation"] != second.identity["activation"]


def test_the_fingerprint_is_that_of_the_weights_not_of_the_file(small_clip, other_clip, tmp_path):
    save_file({key: value.contiguous() for key, value in small_clip_state().items()}, tmp_path / "clip.safetensors")
    same, given, other = (
        FrozenClip.load(pretrained=path, image_size=28).identity
        for path in (tmp_path / "clip.safetensors", small_clip, other_clip)
    )
    assert same["fingerprint"] == given["fingerprint"] != other["fingerprint"]
    assert same["sha256"] != given["sha256"]


def test_every_tensor_counts_in_the_fingerprint():
    state = small_clip_state()
    found = {fingerprint(state)} | {fingerprint({**state, key: value + 0.01}) for key, value in state.items()}
    assert len(found) == 1 + len(state)
    large = {"weight": torch.zeros(4096, 1024)}
    tuned = large["weight"].clone()
    tuned[:, 700] = 1  # one column: a stride that is a power of two would not see it
    assert fingerprint({"weight": tuned}) != fingerprint(large)


def test_nothing_learns_and_nothing_is_stored(clip):
    clip.train()
    assert not clip.training
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    assert clip.state_dict() == {}
    assert torch.nn.Sequential(clip).load_state_dict({}).missing_keys == []


def test_untrained_weights_are_the_same_each_time_and_said_to_be(caplog):
    with caplog.at_level(logging.WARNING):
        first = FrozenClip.load("zsad-tiny", None, 28).identity["fingerprint"]
    assert "untrained" in caplog.text
    torch.manual_seed(5)
    assert FrozenClip.load("zsad-tiny", None, 28).identity["fingerprint"] == first


@pytest.mark.parametrize("layers", [[], [0], [5], [1, -1]])
def test_taps_beyond_the_tower_are_refused(clip, layers):
    with pytest.raises(ValueError, match="feature_layers must name blocks from 1 to 4 of this backbone, got"):
        clip.check_layers(layers)
