"""The V-V stream beside CLIP's own: its kernel, its independence, and that the first stream is left alone."""

import copy

import pytest
import torch

from anomalib_zsad.clip.attention import self_attention, with_value_attention
from anomalib_zsad.clip.backbone import FrozenClip
from tests.support.small_clip import ARCHITECTURE, IMAGE_SIZE

LAST = ARCHITECTURE["vision_cfg"]["layers"]
LAYERS = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=IMAGE_SIZE)


@pytest.fixture
def pictures():
    return torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


def per_head(attention, x):  # q, k, v: each heads x (T, d), of one image, row by row
    q, k, v = (x @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    width = x.shape[-1] // attention.num_heads
    return [[each[:, i : i + width] for i in range(0, x.shape[-1], width)] for each in (q, k, v)]


def slow_attention(attention, x, of_values):
    heads = []
    for q, k, v in zip(*per_head(attention, x), strict=True):
        scores = (v @ v.T if of_values else q @ k.T) / v.shape[1] ** 0.5
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        heads.append(weights @ v)
    return torch.cat(heads, dim=1) @ attention.out_proj.weight.T + attention.out_proj.bias


def slow_streams(clip, images, start):
    """Both streams after every block, image by image with explicit attention."""
    originals, locals_ = [], []
    for image in images:
        stream = local = clip._embed(image[None])[0][0]
        ours, seconds = [], []
        for index, block in enumerate(clip.clip.visual.transformer.resblocks, start=1):
            normed = block.ln_1(stream)
            addition = slow_attention(block.attn, normed, of_values=True)
            stream = stream + slow_attention(block.attn, normed, of_values=False)
            inner = block.mlp.c_fc(block.ln_2(stream))
            stream = stream + block.mlp.c_proj(inner * torch.sigmoid(1.702 * inner))
            local = local + addition if index >= start else stream
            ours.append(stream)
            seconds.append(local)
        originals.append(torch.stack(ours))
        locals_.append(torch.stack(seconds))
    return torch.stack(originals, dim=1), torch.stack(locals_, dim=1)  # blocks x (B, T, C)


@torch.no_grad()
@pytest.mark.parametrize("start", [1, 2, 4])
def test_both_streams_are_their_equations(clip, pictures, start):
    seconds, last = clip.encode_patches_vv(pictures, LAYERS, start)
    originals, locals_ = slow_streams(clip, pictures, start)
    torch.testing.assert_close(torch.stack(seconds), locals_, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, originals[-1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_values_attend_symmetrically_and_queries_do_not(clip):
    attention = clip.clip.visual.transformer.resblocks[-1].attn
    q, k, v = (heads[0].double() for heads in per_head(attention, torch.randn(7, clip.vision_width)))
    scores = v @ v.T / v.shape[1] ** 0.5
    weights, total = scores.softmax(1), scores.exp().sum(1)
    torch.testing.assert_close(weights.sum(1), torch.ones(7).double())
    balance = total.diag() @ weights
    torch.testing.assert_close(balance, balance.T)
    assert torch.linalg.eigvalsh(scores).min() > -1e-9
    asymmetry = q @ k.T - k @ q.T
    assert asymmetry.abs().max() > 1e-2


@torch.no_grad()
def test_the_first_stream_is_the_same_to_the_bit(clip, pictures):
    (alone,) = clip.encode_patches(pictures, [LAST])
    _, beside = clip.encode_patches_vv(pictures, LAYERS, start=1)
    assert torch.equal(alone, beside)
    block = clip.clip.visual.transformer.resblocks[0]
    own, _ = with_value_attention(block.attn, alone)
    assert torch.equal(own, self_attention(block.attn, alone))


@torch.no_grad()
def test_before_its_start_the_second_stream_is_the_first(clip, pictures):
    seconds, _ = clip.encode_patches_vv(pictures, LAYERS, start=3)
    firsts = clip.encode_patches(pictures, LAYERS)
    assert all(torch.equal(*pair) for pair in zip(seconds[:2], firsts[:2], strict=True))
    assert not torch.equal(seconds[2], firsts[2])


@torch.no_grad()
def test_the_second_stream_may_go_through_feed_forward_parts(clip, pictures):
    (plain,), first = clip.encode_patches_vv(pictures, [LAST], start=LAST)
    (fed,), again = clip.encode_patches_vv(pictures, [LAST], start=LAST, feed_forward=True)
    block = clip.clip.visual.transformer.resblocks[-1]
    inner = block.mlp.c_fc(block.ln_2(plain))
    expected = plain + block.mlp.c_proj(inner * torch.sigmoid(1.702 * inner))
    torch.testing.assert_close(fed, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(first, again)


@torch.no_grad()
def test_taps_of_the_second_stream_differ_and_stay(clip, pictures):
    taps, _ = clip.encode_patches_vv(pictures, LAYERS, start=1)
    again, _ = clip.encode_patches_vv(pictures, [4, 2], start=1)
    assert torch.equal(again[0], taps[3])
    assert torch.equal(again[1], taps[1])
    differences = [(taps[i] - taps[j]).abs().max() for i in range(4) for j in range(i)]
    assert min(differences) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(
    ("part", "first_changes", "second_changes"),
    [("feed forward", True, False), ("queries and keys", True, False), ("values", True, True)],
)
def test_of_the_last_block_only_the_values_reach_the_second_stream(
    small_clip, pictures, part, first_changes, second_changes
):
    clip = copy.deepcopy(FrozenClip.load(pretrained=small_clip, image_size=IMAGE_SIZE))
    before, first = clip.encode_patches_vv(pictures, [LAST], start=1)
    block, width = clip.clip.visual.transformer.resblocks[-1], clip.vision_width
    weight = {
        "feed forward": block.mlp.c_proj.weight,
        "queries and keys": block.attn.in_proj_weight[: 2 * width],
        "values": block.attn.in_proj_weight[2 * width :],
    }[part]
    weight.copy_(torch.randn_like(weight))
    after, other = clip.encode_patches_vv(pictures, [LAST], start=1)
    assert torch.equal(first, other) != first_changes
    assert torch.equal(before[0], after[0]) != second_changes
