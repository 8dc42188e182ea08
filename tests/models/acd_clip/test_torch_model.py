"""ACD-CLIP against the equations, written out slowly, and what each of its parts changes."""

import pytest
import torch
from torch.nn import functional as F

from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.acd_clip.adapter import group_ends
from tests.support.choices import with_choices
from tests.support.contract import batch, images

GROUPS = 2
RECTANGLE = (42, 70)
GRID = (3, 5)


def build(clip, **arguments):
    model = ACDClip(pretrained=clip, image_size=56, n_groups=GROUPS, **with_choices(ACDClip, arguments))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # away from the initial values, which hide mistakes
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def slow_mix(tokens, adapted, weight):
    length = tokens.norm(dim=-1, keepdim=True) / adapted.norm(dim=-1, keepdim=True)
    return (1 - weight) * tokens + weight * adapted * length


def slow_conv_lora(model, group, tokens, scale_of):  # eq. 1-3, patch by patch where it can be
    outs = []
    adapter = model.vision.mixed[group].adapter
    for branch, kernel in zip(adapter.branches, (3, 5), strict=True):
        first, second, lora = scale_of(kernel)
        plane = (tokens @ branch.down).reshape(len(tokens), *GRID, -1).permute(0, 3, 1, 2)
        plane = first * F.conv2d(plane, branch.conv_down.weight, padding=kernel // 2)
        plane = second * F.conv2d(plane, branch.conv_up.weight, padding=kernel // 2)
        outs.append(lora * plane.permute(0, 2, 3, 1).reshape(len(tokens), GRID[0] * GRID[1], -1) @ branch.up)
    plane = torch.cat(outs, dim=-1).permute(0, 2, 1).reshape(len(tokens), -1, *GRID)
    return adapter.fuse(plane).flatten(2).permute(0, 2, 1)


def slow_text(model, name):  # one prompt at a time
    levels = [[[], []] for _ in range(GROUPS)]
    for state, texts in enumerate(model.text.prompts.of(name)):
        for text in texts:
            numbers = model.encoder.clip.tokenize([text])
            words = model.encoder.clip.embed_tokens(numbers)

            def edit(block, stream):
                if block % (model.encoder.clip.n_text_blocks // GROUPS):
                    return stream
                mixed = model.text.mixed[block * GROUPS // model.encoder.clip.n_text_blocks - 1]
                adapted = stream @ mixed.adapter.down @ mixed.adapter.up * 2 / 4
                return slow_mix(stream, adapted, mixed.weight)

            for group, tap in enumerate(model.encoder.clip.encode_words(words, [1, 2], edit)):
                feature = model.text.norms[group](tap)[0, numbers[0].argmax()]
                levels[group][state].append(feature / feature.norm())
    means = [[torch.stack(features).mean(0) for features in states] for states in levels]
    return torch.stack([torch.stack([mean / mean.norm() for mean in states], dim=-1) for states in means])


def slow_patches(model, pictures, scale_of):
    def edit(block, stream):
        if block not in (2, 4):
            return stream
        mixed = model.vision.mixed[block // 2 - 1]
        patches = stream[:, 1:]
        adapted = slow_conv_lora(model, block // 2 - 1, patches, scale_of)
        return torch.cat([stream[:, :1], slow_mix(patches, adapted, mixed.weight)], dim=1)

    return [tap[:, 1:] for tap in model.encoder.clip.encode_patches(pictures, [2, 4], edit)]


def slow_head(head, patches):
    tokens = head.norm(head.outer(F.leaky_relu(head.inner(patches), 0.01)))
    return tokens / tokens.norm(dim=-1, keepdim=True)


def slow_fused(model, group, tokens, text):  # eq. 4-5, image by image and state by state
    if not model.vision.gates:
        return text[group].expand(len(tokens), -1, -1)
    gate = model.vision.gates[group]
    logits = gate.outer(F.gelu(gate.inner(tokens.mean(1)))).view(-1, GROUPS, 2)
    fused = torch.zeros(len(tokens), text.shape[1], 2)
    for image in range(len(tokens)):
        for state in range(2):
            weights = torch.exp(logits[image, :, state]) / torch.exp(logits[image, :, state]).sum()
            fused[image, :, state] = sum(weights[level] * text[level, :, state] for level in range(GROUPS))
    return fused


def slow_upsampled(maps):  # (..., gh, gw)
    return F.interpolate(maps[:, None], size=RECTANGLE, mode="bilinear", align_corners=True)[:, 0]


def slow_paper(model, pictures, name):
    text = slow_text(model, name)
    patches = slow_patches(model, pictures, lambda kernel: (1 / kernel, 1 / kernel, 1))
    maps = 0
    for group in range(GROUPS):
        tokens = slow_head(model.vision.segmentation[group], patches[group])
        fused = slow_fused(model, group, tokens, text)
        similar = F.cosine_similarity(tokens[..., None], fused[:, None], dim=2)
        maps = maps + (similar / 0.1).softmax(-1)[..., 1] / GROUPS  # eq. 6
    maps = slow_upsampled(maps.reshape(-1, *GRID))
    detection = slow_head(model.vision.detection[0], patches[-1]).mean(1)
    similar = F.cosine_similarity(detection[..., None], text[-1][None], dim=1)
    probability = similar.softmax(-1)[:, 1]
    return 0.9 * probability + 0.1 * maps.flatten(1).max(1)[0], maps


def slow_released(model, pictures, name):
    from kornia.filters import gaussian_blur2d

    text = slow_text(model, name)
    patches = slow_patches(model, pictures, lambda kernel: (1, 2 / 8, 2 / 4))
    logits, classes = 0, 0
    for group in range(GROUPS):
        tokens = slow_head(model.vision.segmentation[group], patches[group])
        maps = 10 * tokens @ slow_fused(model, group, tokens, text)
        maps = maps.permute(0, 2, 1).reshape(-1, 2, *GRID)
        maps = gaussian_blur2d(maps, (3, 3), (1.0, 1.0))
        logits = logits + F.interpolate(maps, size=RECTANGLE, mode="bilinear", align_corners=True) / GROUPS
        classes = classes + slow_head(model.vision.detection[group], patches[group]).mean(1) @ text[group] / GROUPS
    maps = logits.softmax(1)[:, 1]
    return 0.9 * classes.softmax(-1)[:, 1] + 0.1 * maps.flatten(1).max(1)[0], maps


@torch.no_grad()
@pytest.mark.parametrize("dynamic_fusion", [True, False])
@pytest.mark.parametrize(("variant", "slow"), [("paper", slow_paper), ("released", slow_released)])
def test_the_variants_are_their_equations_on_images_that_are_not_square(small_clip, variant, slow, dynamic_fusion):
    arguments = {"blur_size": 3} if variant == "released" else {}  # kornia cannot blur a grid as small as this with 7
    arguments.update(variant=variant, dynamic_fusion=dynamic_fusion)
    model = build(small_clip, class_name="metal_nut", **arguments).model
    score, maps = slow(model, images(2, RECTANGLE), "metal nut which has four notched edges")
    result = model(images(2, RECTANGLE))
    torch.testing.assert_close(result.pred_score, score, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.anomaly_map[:, 0], maps, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "changed",
    [
        {"conv_lora": False},
        {"dynamic_fusion": False},
        {"variant": "paper"},
        {"activation": "quick_gelu"},
        {"kernels": (3,)},
        {"rank": 4},
        {"temperature": 0.2},
        {"mix": 0.5},
        {"class_name": "wooden board"},
        {"blur_size": 1},
        {"domain": "medical"},
        {"class_weight": 0.2},
    ],
)
def test_every_part_changes_the_result(small_clip, changed):
    ours, other = (build(small_clip, **arguments).model(images()) for arguments in ({}, changed))
    assert not torch.allclose(ours.pred_score, other.pred_score, atol=1e-6)
    if "class_weight" not in changed:
        assert not torch.allclose(ours.anomaly_map, other.anomaly_map, atol=1e-5)


def test_the_baseline_of_the_ablation_has_neither_convolutions_nor_gates(small_clip):
    def learnt(**arguments):
        model = ACDClip(pretrained=small_clip, image_size=56, n_groups=2, **arguments)
        return [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    assert any("conv" in name for name in learnt())
    assert any("gates" in name for name in learnt())
    assert not any("conv" in name or "fuse" in name for name in learnt(conv_lora=False))
    assert not any("gates" in name for name in learnt(dynamic_fusion=False))


@torch.no_grad()
def test_neighbours_count_only_with_convolutions(small_clip):
    tokens = torch.randn(1, 25, 64)
    moved = tokens.clone()
    moved[0, 12] += 1
    for conv_lora, reached in ((True, 25), (False, 1)):
        adapter = build(small_clip, conv_lora=conv_lora).model.vision.mixed[0]
        changed = (adapter(tokens, (5, 5)) - adapter(moved, (5, 5))).abs().amax(-1) > 1e-6
        assert changed.sum() == reached  # two convolutions of 5 x 5 see 9 x 9 patches


@torch.no_grad()
def test_class_token_passes_and_patches_keep_what_norm_matching_leaves(small_clip):
    vision = build(small_clip).model.vision
    stream = torch.randn(2, 17, 64)
    edited = vision.edit(2, stream, (4, 4))
    assert torch.equal(edited[:, 0], stream[:, 0])
    assert torch.equal(vision.edit(1, stream, (4, 4)), stream)
    adapter = vision.mixed[0]
    adapter.weight.fill_(1)
    lengths = vision.edit(2, stream, (4, 4)).norm(dim=-1)
    torch.testing.assert_close(lengths, stream.norm(dim=-1))


def test_later_blocks_see_the_adapted_tokens(small_clip):
    model = build(small_clip).model
    last = model.encoder(images()).tokens[-1][:, 1:].sum()
    assert torch.autograd.grad(last, model.vision.mixed[0].weight)[0].abs().max() > 0


@pytest.mark.parametrize(("blocks", "groups", "ends"), [(24, 4, [6, 12, 18, 24]), (12, 6, [2, 4, 6, 8, 10, 12])])
def test_group_ends(blocks, groups, ends):
    assert group_ends(blocks, groups) == ends


@pytest.mark.parametrize("n_groups", [3, 4])
def test_groups_that_divide_only_one_tower_are_refused(small_clip, n_groups):
    with pytest.raises(
        ValueError, match=f"n_groups must divide the 4 vision blocks and the 2 text blocks .* {n_groups}"
    ):
        ACDClip(pretrained=small_clip, image_size=56, n_groups=n_groups)


@pytest.mark.parametrize("n_groups", [1, 2])
def test_any_number_that_divides_both_towers_works(small_clip, n_groups):
    result = ACDClip(pretrained=small_clip, image_size=56, n_groups=n_groups).model(images(1))
    assert result.anomaly_map.shape == (1, 1, 56, 56)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "best"}, "variant must be one of released, paper, got 'best'"),
        ({"domain": "space"}, "domain must be one of industrial, medical or None, got 'space'"),
        ({"kernels": (4,)}, r"kernels must be .* that is odd, got \(4,\)"),
        ({"choices": {"blur_size": 4}}, "blur_size must be .* that is odd or None, got 4"),
    ],
)
def test_bad_arguments_are_named(small_clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        ACDClip(pretrained=small_clip, image_size=56, n_groups=2, **arguments)


def test_gradient_checkpointing_changes_no_gradient(small_clip):
    gradients = []
    for checkpointing in (False, True):
        model = build(small_clip, gradient_checkpointing=checkpointing)
        logits = model.model.logits(images())
        (logits.patches.sum() + logits.image[:, 0].sum()).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for kept, computed_again in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, computed_again)


def test_what_learns_stays_in_float32_under_autocast(small_clip):
    model = build(small_clip)
    exact = model.loss_terms(batch())["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss_terms(batch())
        terms["loss"].backward()
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert terms["loss"] != exact
    torch.testing.assert_close(terms["loss"], exact, atol=2e-2, rtol=0)
    assert {p.grad.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
