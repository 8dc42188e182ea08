"""What is learnt: text attention, deformable attention, BiCA and the Conv-Adapter, at their limits."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from anomalib_zsad.functional.scoring import cosines, entropy
from anomalib_zsad.models.kano_clip.adapter import BiCA
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.kano_clip.conv_adapter import ConvAdapter
from anomalib_zsad.models.kano_clip.deformable import DeformableAttention
from anomalib_zsad.models.kano_clip.text_attention import TextAttention
from anomalib_zsad.models.parts.deep_prompts import DeepPrompts

WIDTH, GRID = 64, (37, 37)
N = GRID[0] * GRID[1]
SIZES: dict[str, Any] = {"bica_dim": 32, "bica_heads": 4}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def moved(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return module


def plain_attention(part, x, y):
    q, k, v = (
        each.unflatten(-1, (part.heads, -1)).transpose(1, 2) for each in (part.to_q(x), part.to_k(y), part.to_v(y))
    )
    return part.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@torch.no_grad()
def test_projections_moved_to_the_texts_change_nothing():
    part = moved(TextAttention(WIDTH, inner=32, heads=4))
    few, many = torch.randn(3, 2, WIDTH), torch.randn(3, 50, WIDTH)
    torch.testing.assert_close(part.from_few(few, many)[0], plain_attention(part, few, many), atol=1e-5, rtol=0)
    torch.testing.assert_close(part.from_many(many, few), plain_attention(part, many, few), atol=1e-5, rtol=0)
    one = part.from_many(many, few[:1])
    torch.testing.assert_close(one, plain_attention(part, many, few[:1].expand(3, -1, -1)), atol=1e-5, rtol=0)
    _, weights = part.from_few(few[:1], many)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 2))


def test_entropy_of_even_and_of_single_attention():
    assert entropy(torch.full((2, 8), 1 / 8)).mean().item() == pytest.approx(2.0794415)
    assert entropy(torch.eye(4)).mean().item() == 0


@torch.no_grad()
def test_unmoved_points_read_what_a_bilinear_resize_does():
    part = DeformableAttention(WIDTH, KAnoChoices(bica_dim=32))
    plane = torch.randn(2, 32, *GRID)
    offsets = part.offsets(torch.randn(2, 32, *GRID))
    assert offsets.shape == (2 * 4, 2, 10, 10)
    assert offsets.abs().max() == 0
    resized = F.interpolate(plane, size=(10, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(part.sample(plane, offsets), resized, atol=5e-5, rtol=0)


@torch.no_grad()
def test_points_never_move_further_than_their_range():
    part = moved(DeformableAttention(WIDTH, KAnoChoices(bica_dim=32)))
    part.offset_out.weight.fill_(1e3)
    offsets = part.offsets(1e3 * torch.randn(2, 32, *GRID))
    in_patches = offsets * GRID[0] / 2
    assert 3.69 < in_patches.abs().max() <= 3.7001


def test_the_offsets_receive_a_gradient_from_their_start():
    part = DeformableAttention(WIDTH, KAnoChoices(bica_dim=32))
    part(torch.randn(1, N, WIDTH), GRID)[0].square().mean().backward()
    assert part.offset_out.weight.grad.abs().max() > 0
    assert part.offset_conv.weight.grad.abs().max() == 0
    with torch.no_grad():
        part.offset_out.weight += 0.01
    part(torch.randn(1, N, WIDTH), GRID)[0].square().mean().backward()
    assert part.offset_conv.weight.grad.abs().max() > 0


@torch.no_grad()
def test_without_residuals_patches_and_texts_are_compared_as_they_are():
    part = moved(BiCA(WIDTH, KAnoChoices(**SIZES)))
    patches, text = torch.randn(2, N, WIDTH), torch.randn(2, 2, WIDTH)
    full = part(patches, text, GRID).cosines
    expected = F.cosine_similarity(patches[:, :, None], text[:, None], dim=-1)
    assert (full - expected).abs().max() > 1e-2
    for scale in (part.text_scale, part.patch_scale, part.patch_to_text_scale, part.text_to_patch_scale):
        kept = scale.clone()
        scale.zero_()
        assert (part(patches, text, GRID).cosines - full).abs().max() > 1e-4  # each of the four counts
        scale.copy_(kept)
    for scale in (part.text_scale, part.patch_scale, part.patch_to_text_scale, part.text_to_patch_scale):
        scale.zero_()
    torch.testing.assert_close(part(patches, text, GRID).cosines, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(cosines(patches, text), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_after_the_other_patches_read_the_text_that_has_read_them():
    sizes = {**SIZES, "deform_attention": "none"}
    parallel = moved(BiCA(WIDTH, KAnoChoices(**sizes)))
    part = BiCA(WIDTH, KAnoChoices(**sizes, bica_cross="sequential"))
    part.load_state_dict(parallel.state_dict())
    patches, text = torch.randn(2, N, WIDTH), torch.randn(2, 2, WIDTH)
    normed = part.text_norm(text)
    read = text + part.text_scale * part.text_self.from_few(normed, normed)[0]
    from_patches = part.patch_to_text.from_few(part.cross_text_norm(read), part.cross_patch_norm(patches))[0]
    read = read + part.patch_to_text_scale * from_patches
    from_text = part.text_to_patch.from_many(part.cross_patch_norm(patches), part.cross_text_norm(read))
    expected = cosines(patches + part.text_to_patch_scale * from_text, read)
    torch.testing.assert_close(part(patches, text, GRID).cosines, expected, atol=1e-6, rtol=0)
    assert (parallel(patches, text, GRID).cosines - expected).abs().max() > 1e-4


@torch.no_grad()
def test_feed_forward_parts_and_the_other_order_change_the_comparison():
    patches, text = torch.randn(2, N, WIDTH), torch.randn(2, 2, WIDTH)
    part = moved(BiCA(WIDTH, KAnoChoices(**SIZES, bica_ffn=True)))
    full = part(patches, text, GRID).cosines
    crossed = BiCA(WIDTH, KAnoChoices(**SIZES, bica_order="cross_first", bica_ffn=True))
    crossed.load_state_dict(part.state_dict())
    assert (crossed(patches, text, GRID).cosines - full).abs().max() > 1e-4
    for scale in (part.text_ffn_scale, part.patch_ffn_scale):
        before = part(patches, text, GRID).cosines
        scale.zero_()
        assert (part(patches, text, GRID).cosines - before).abs().max() > 1e-4
    plain = BiCA(WIDTH, KAnoChoices(**SIZES))
    plain.load_state_dict({name: part.state_dict()[name] for name in plain.state_dict()})
    assert torch.equal(plain(patches, text, GRID).cosines, part(patches, text, GRID).cosines)


def test_an_option_leaves_the_start_of_all_other_parameters_alone():
    starts = []
    for options in ({}, {"bica_order": "cross_first", "bica_ffn": True}):
        torch.manual_seed(0)
        starts.append(BiCA(WIDTH, KAnoChoices(**SIZES, **options)).state_dict())
    plain, whole = starts
    assert all(torch.equal(value, whole[name]) for name, value in plain.items())
    assert {name.split(".")[0] for name in whole.keys() - plain.keys()} == {
        "text_ffn",
        "text_ffn_scale",
        "patch_ffn",
        "patch_ffn_scale",
    }


@torch.no_grad()
@pytest.mark.parametrize("deformable", [False, True])
def test_only_deformable_attention_knows_where_patches_lie(deformable):
    part = moved(BiCA(WIDTH, KAnoChoices(**SIZES, deform_attention="dat" if deformable else "none")))
    patches, text, order = torch.randn(1, N, WIDTH), torch.randn(1, 2, WIDTH), torch.randperm(N)
    shuffled = part(patches[:, order], text, GRID).cosines
    difference = (shuffled - part(patches, text, GRID).cosines[:, order]).abs().max()
    assert (difference > 1e-4) == deformable


def delta(part):
    with torch.no_grad():
        part.depthwise.weight.zero_()
        part.depthwise.weight[:, 0, 1, 1] = 1
    return part


@torch.no_grad()
def test_with_a_kernel_that_passes_its_centre_on_the_adapter_is_equation_11():
    part = delta(moved(ConvAdapter(WIDTH, KAnoChoices(bottleneck=16, conv_adapter_context=False))))
    feature, patches = torch.randn(3, WIDTH), torch.randn(3, N, WIDTH)
    normed = F.layer_norm(feature, (WIDTH,), part.norm.weight, part.norm.bias)
    expected = torch.relu(normed @ part.down.weight.T) @ part.up.weight.T
    torch.testing.assert_close(part(feature, patches, GRID), expected, atol=1e-5, rtol=1e-5)
    part.residual = 0.5
    torch.testing.assert_close(part(feature, patches, GRID), expected + feature / 2, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_only_a_kernel_with_neighbours_sees_where_patches_lie():
    part = moved(ConvAdapter(WIDTH, KAnoChoices(bottleneck=16)))
    feature, patches, order = torch.randn(2, WIDTH), torch.randn(2, N, WIDTH), torch.randperm(N)

    def difference():
        return (part(feature, patches[:, order], GRID) - part(feature, patches, GRID)).abs().max()

    assert difference() > 1e-3
    delta(part)
    assert difference() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dwsep", "conv_adapter", "linear"])
def test_the_global_feature_is_a_map_of_one_patch(kind):
    part = moved(ConvAdapter(WIDTH, KAnoChoices(bottleneck=16, conv_adapter_context=False, conv_adapter=kind)))
    around = moved(ConvAdapter(WIDTH, KAnoChoices(bottleneck=16, conv_adapter=kind)))
    around.load_state_dict(part.state_dict())
    feature = torch.randn(3, WIDTH)
    single = around(feature, feature[:, None], (1, 1))  # both the feature and the map
    torch.testing.assert_close(single, 2 * part(feature, feature[:, None], (1, 1)), atol=1e-5, rtol=1e-5)
    patches, order = torch.randn(3, N, WIDTH), torch.randperm(N)
    difference = (around(feature, patches[:, order], GRID) - around(feature, patches, GRID)).abs().max()
    assert (difference > 1e-3) == (kind != "linear")


@pytest.mark.parametrize("context", [True, False])
def test_all_taps_learn_with_context_and_the_centre_alone_without(context):
    part = ConvAdapter(WIDTH, KAnoChoices(bottleneck=16, conv_adapter_context=context))
    part(torch.randn(2, WIDTH), torch.randn(2, N, WIDTH), GRID).square().sum().backward()
    learns = (part.depthwise.weight.grad.abs().amax((0, 1)) > 0).flatten().tolist()
    assert learns == [context or tap == 4 for tap in range(9)]


def test_the_published_sizes_have_the_number_of_parameters_of_the_sheet():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    with torch.device("meta"):
        stages = [BiCA(768) for _ in range(4)]
        adapter = ConvAdapter(768)
        others = [ConvAdapter(768, KAnoChoices(conv_adapter=kind)) for kind in ("conv_adapter", "linear")]
        deep = DeepPrompts(SimpleNamespace(text_width=768, start_tokens=1), blocks=8, length=4, prompt_length=12)
    prompts = 2 * 12 * 768
    assert [count(stage) for stage in stages] == [2_968_192] * 4
    assert count(adapter) == 303_360
    assert [count(other) for other in others] == [156_672, 296_448]
    assert count(deep) == 24_576
    assert prompts + sum(map(count, stages)) + count(adapter) == 12_194_560
