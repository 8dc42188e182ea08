"""FrozenClip over the vision towers of timm, against open_clip's own forward."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from torch import nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from tests.support.small_towers import IMAGE_SIZE, TIMM, small_model, small_state

TEXTS = ["a photo of a bottle.", "a scratch"]


@pytest.fixture(scope="module", params=TIMM)
def pair(request, timm_clips):
    return FrozenClip.load(request.param, timm_clips[request.param], IMAGE_SIZE), small_model(request.param)


@torch.no_grad()
def test_image_features_and_taps_are_those_of_open_clip(pair):
    ours, theirs = pair
    images = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    taps = ours.encode_patches(images, [1, 4])
    intermediates = theirs.visual.trunk.forward_intermediates(images, [0, 3], output_fmt="NLC", intermediates_only=True)
    for tap, expected in zip(taps, intermediates, strict=True):
        torch.testing.assert_close(tap[:, -9:], expected, atol=1e-5, rtol=1e-5)
    expected = theirs.encode_image(images)
    torch.testing.assert_close(ours.pool(taps[1]), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.project_with_image(taps[1])[:, 0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_images_of_another_size_are_those_of_a_tower_of_that_size(pair):
    ours, theirs = pair
    images, trunk = torch.randn(1, 3, 56, 28), theirs.visual.trunk
    positions = trunk.pos_embed
    trunk.set_input_size((56, 28))
    # Not what the tower resized itself: anomalib has it resize without antialias, once it has built one of timm.
    trunk.pos_embed = nn.Parameter(
        resample_abs_pos_embed(positions, [4, 2], [3, 3], num_prefix_tokens=trunk.num_prefix_tokens)
    )
    expected = theirs.encode_image(images)
    resized = FrozenClip(ours.clip, IMAGE_SIZE, position_resize="bicubic_antialias", identity=ours.identity)
    ready = FrozenClip(ours.clip, (56, 28), position_resize="bicubic_antialias", identity=ours.identity)
    for clip in (resized, ready):
        (tap,) = clip.encode_patches(images, [4])
        torch.testing.assert_close(clip.pool(tap), expected, atol=1e-5, rtol=1e-5)
    trunk.set_input_size((IMAGE_SIZE, IMAGE_SIZE))
    trunk.pos_embed = positions


@torch.no_grad()
def test_text_features_are_those_of_open_clip(pair):
    ours, theirs = pair
    tokens = ours.tokenize(TEXTS)
    assert tokens.shape == (2, ours.context_length)
    read = ours.encode_text(ours.embed_tokens(tokens), ours.ends_of(tokens))
    torch.testing.assert_close(read, theirs.encode_text(tokens), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_patch_comes_to_the_joint_space_as_an_image_of_one_token(pair):
    ours, theirs = pair
    (tap,) = ours.encode_patches(torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE), [4])
    trunk = theirs.visual.trunk
    expected = [trunk.forward_head(trunk.norm(tap[:, [index]])) for index in range(-9, 0)]
    torch.testing.assert_close(ours.project_patches(tap), torch.stack(expected, dim=1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_linear_head_is_one(pair):
    ours, _ = pair
    (tap,) = ours.encode_patches(torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE), [4])
    if ours.linear_head is not None:
        norm, weight, bias = ours.linear_head
        torch.testing.assert_close(norm(tap) @ weight + bias, ours.project(tap), atol=1e-5, rtol=1e-5)
    assert (ours.linear_head is None) == (ours.identity["backbone"] != "zsad-small-eva02")


@torch.no_grad()
def test_the_second_stream_gathers_values_by_values(pair):
    """Each block's share of it is that of a block whose queries and keys are its values, without positions."""
    ours, theirs = pair
    images = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    (before, middle), last = ours.encode_patches_vv(images, [2, 3], start=3)
    plain = ours.encode_patches(images, [2, 4])
    assert torch.equal(before, plain[0])
    assert torch.equal(last, plain[1])
    block = theirs.visual.trunk.blocks[2]
    x = block.norm1(plain[0])
    values = _values(block.attn, x).view(2, -1, 2, 16).transpose(1, 2)
    weights = (values @ values.transpose(-1, -2) / 4).softmax(-1)
    gathered = (weights @ values).transpose(1, 2).flatten(2)
    expected = plain[0] + block.attn.proj(getattr(block.attn, "norm", torch.nn.Identity())(gathered))
    torch.testing.assert_close(middle, expected, atol=1e-5, rtol=1e-5)


def _values(attention, x):
    if attention.qkv is None:
        return attention.v_proj(x)
    return F.linear(x, attention.qkv.weight[64:], attention.qkv.bias[64:])


def test_the_copy_for_export_has_no_text_tower(pair):
    ours, _ = pair
    copy = ours.without_text()
    assert copy.clip.text is None
    assert ours.clip.text is not None
    image = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert torch.equal(copy.encode_patches(image, [4])[0], ours.encode_patches(image, [4])[0])


def test_quantised_are_the_matrices_of_the_blocks(pair):
    ours, theirs = pair
    expected = sum(each.numel() for each in theirs.visual.trunk.blocks.parameters() if each.ndim == 2)
    assert sum(each.numel() for each in ours.block_weights()) == expected


def test_files_of_another_backbone_are_refused(timm_clips, small_clip, tmp_path):
    eva, pe, siglip = TIMM
    with pytest.raises(ValueError, match=r"siglip.*: expected the weights of zsad-small-pe; .* missing"):
        FrozenClip.load(pe, timm_clips[siglip], IMAGE_SIZE)
    with pytest.raises(ValueError, match="found a timm tower, whose shapes do not tell its architecture: name it as"):
        FrozenClip.load("ViT-L-14-336", timm_clips[eva], IMAGE_SIZE)
    with pytest.raises(ValueError, match=r": expected the weights of zsad-small-eva02"):
        FrozenClip.load(eva, small_clip, IMAGE_SIZE)


def test_weights_of_scalars_in_vectors_are_read(timm_clips, tmp_path):
    state = small_state(TIMM[2])
    save_file({**state, "logit_bias": state["logit_bias"].reshape(1)}, tmp_path / "siglip.safetensors")
    given, same = (
        FrozenClip.load(TIMM[2], path, IMAGE_SIZE).identity["fingerprint"]
        for path in (tmp_path / "siglip.safetensors", timm_clips[TIMM[2]])
    )
    assert given == same
    assert load_file(tmp_path / "siglip.safetensors")["logit_bias"].shape == (1,)


def test_untrained_towers_are_the_same_each_time(timm_clips):
    first, second = (FrozenClip.load(TIMM[0], None, size) for size in (28, 42))
    assert first.identity["fingerprint"] == second.identity["fingerprint"]
    assert first.identity["activation"] == "own"
    assert first.encode_patches(torch.randn(1, 3, 28, 28), [4])[0].isfinite().all()
