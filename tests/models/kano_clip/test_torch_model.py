"""KAnoCLIP against its equations written out slowly, and what each of its parts changes."""

from functools import partial

import pytest
import torch

from anomalib_zsad.models.kano_clip import KAnoClip
from tests.models.kano_clip import reference
from tests.models.kano_clip.building import build, build_like
from tests.support.contract import batch, images

RECTANGLE = (42, 70)
OF_THE_SCORE_ALONE = {
    "use_conv_adapter",
    "cls_source",
    "cls_ln_post",
    "bottleneck",
    "conv_kernel",
    "conv_adapter_context",
    "conv_adapter_residual",
    "conv_adapter",
    "score_temperature",
}


@pytest.fixture(scope="module")
def base(small_clip):
    return build(small_clip)


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((56, 56), {}),
        (RECTANGLE, {}),
        (RECTANGLE, {"bica_order": "cross_first", "bica_ffn": True, "conv_adapter": "conv_adapter"}),
        ((56, 56), {"deep_prompt_depth": 1, "map_norm": "minmax", "conv_adapter": "linear"}),
        ((56, 56), {"conv_adapter_residual": 0.5}),
    ],
)
def test_the_scores_are_the_equations(small_clip, size, options):
    model = build(small_clip, **options).model
    pictures = images(2, size)
    names = ["metal nut", "printed circuit board"]
    result = model(pictures, names)
    maps = model.scores(model.logits(pictures, names), size).log_odds.abnormal.sigmoid()
    for i, name in enumerate(names):
        score, abnormal, smooth = reference.scores_of(model, pictures[i], name)
        assert result.pred_score[i].item() == pytest.approx(score, abs=1e-5)
        torch.testing.assert_close(maps[i], abnormal, atol=2e-5, rtol=0)
        torch.testing.assert_close(result.anomaly_map[i, 0], smooth, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "changed",
    [
        {"use_knpl": False},
        {"use_vv": False},
        {"use_bicmci": False},
        {"use_conv_adapter": False},
        {"prompt_length": 4},
        {"normal_states": ("flawless",)},
        {"abnormal_states": ("broken", "damaged")},
        {"text_ensemble": "mean_normalized"},
        {"deep_prompt_depth": 1},
        {"deep_prompt_depth": 1, "deep_prompt_length": 12},
        {"vv_start_layer": 3},
        {"vv_ffn": True},
        {"cls_source": "vv"},
        {"cls_ln_post": False},
        {"patch_projection": "linear"},
        {"bica_residual_init": 0.5},
        {"bica_order": "cross_first"},
        {"bica_cross": "sequential"},
        {"bica_ffn": True},
        {"bica_dim": 16},
        {"bica_heads": 2},
        {"deform_attention": "none"},
        {"deform_kernel": 1},
        {"deform_stride": 1},
        {"deform_groups": 2},
        {"conv_adapter": "conv_adapter"},
        {"conv_adapter": "linear"},
        {"bottleneck": 8},
        {"conv_kernel": 1},
        {"conv_adapter_context": False},
        {"conv_adapter_residual": 1.0},
        {"temperature": 0.2},
        {"score_temperature": 0.2},
        {"stage_reduction": "mean"},
        {"map_norm": "minmax"},
        {"upsample_align_corners": True},
        {"sigma": 0.0},
        {"feature_layers": [2, 4]},
        {"activation": "gelu"},
        {"class_name": "wooden board"},
        {"class_names": {"object": "thing"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_part_changes_the_result(small_clip, base, changed):
    # What parameters start as is all that such an argument decides.
    like = build if "bica_residual_init" in changed else partial(build_like, base)
    ours, other = base.model(images()), like(small_clip, **changed).model(images())
    assert not torch.allclose(ours.pred_score, other.pred_score, atol=1e-6)
    assert torch.equal(ours.anomaly_map, other.anomaly_map) == (set(changed) <= OF_THE_SCORE_ALONE)


@torch.no_grad()
def test_without_all_its_parts_it_is_clip(small_clip):
    off = {"use_knpl": False, "use_vv": False, "use_bicmci": False, "use_conv_adapter": False}
    module = KAnoClip(pretrained=small_clip, image_size=56, sigma=0.0, **off)
    model, clip = module.model, module.model.encoder.clip
    sentences = ["a photo of a normal bottle.", "a photo of an abnormal bottle."]
    tokens = clip.tokenize(sentences)
    text = torch.nn.functional.normalize(clip.encode_text(clip.embed_tokens(tokens), tokens.argmax(-1)), dim=-1)
    taps = clip.encode_patches(images(), [1, 2, 3, 4])
    taps = [torch.nn.functional.normalize(clip.project(tap), dim=-1) for tap in taps]
    patches = sum(tap[:, 1:] @ text.T for tap in taps).transpose(1, 2).unflatten(2, (4, 4)) / 0.07
    maps = torch.nn.functional.interpolate(patches, size=(56, 56), mode="bilinear").softmax(1)[:, 1]
    result = model(images(), ["bottle"] * 3)
    torch.testing.assert_close(result.anomaly_map[:, 0], maps, atol=1e-5, rtol=0)
    score = (taps[-1][:, 0] @ text.T / 0.07).softmax(-1)[:, 1]
    torch.testing.assert_close(result.pred_score, (score + maps.amax((1, 2))) / 2, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="expected something to train, but all parts of KAnoClip are switched off"):
        module.configure_optimizers()


@torch.no_grad()
def test_the_global_feature_is_clips_own_with_v_v_attention_or_without(small_clip):
    ours, plain = (build(small_clip, use_vv=use_vv).model.encoder(images()).tokens for use_vv in (True, False))
    assert torch.equal(ours[-1], plain[-1])
    assert not torch.equal(ours[0], plain[0])


@torch.no_grad()
@pytest.mark.parametrize("projection", ["clip", "linear"])
def test_the_class_token_is_that_which_was_asked_for(small_clip, projection):
    clip = build(small_clip).model.encoder.clip
    stages, last = clip.encode_patches_vv(images(), [1, 2, 3, 4], 1)
    for source, tokens in (("original", last), ("vv", stages[-1])):
        for ln_post, normed in ((True, clip.ln_post(tokens)), (False, tokens)):
            options = {"cls_source": source, "cls_ln_post": ln_post, "patch_projection": projection}
            *_, own = build(small_clip, **options).model.encoder(images()).tokens
            torch.testing.assert_close(own[:, 0], normed[:, 0] @ clip.projection, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(own[:, 1:], clip.project(last)[:, 1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_both_maps_add_up_to_one_and_a_constant_stays(small_clip):
    model = build(small_clip).model
    logits = model.logits(images())
    scores = model.scores(logits, (56, 56))
    swapped = model.scores(logits._replace(patches=logits.patches.flip(-1)), (56, 56))
    torch.testing.assert_close(scores.maps + swapped.maps, torch.ones(3, 56, 56), atol=1e-6, rtol=0)
    flat = model.scores(logits._replace(patches=torch.tensor([0.1, 0.4]).expand_as(logits.patches)), (56, 56))
    expected = torch.full((3, 56, 56), torch.tensor(4 * 0.3).sigmoid().item())
    torch.testing.assert_close(flat.smooth, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_min_max_brings_both_maps_of_each_image_to_their_bounds(small_clip):
    model = build(small_clip, map_norm="minmax").model
    logits = model.logits(images())
    scores = model.scores(logits, (56, 56))
    for maps in (state.sigmoid() for state in scores.log_odds):
        torch.testing.assert_close(maps.amin((1, 2)), torch.zeros(3), atol=2e-5, rtol=0)
        torch.testing.assert_close(maps.amax((1, 2)), torch.ones(3), atol=2e-5, rtol=0)
    assert (scores.log_odds.normal + scores.log_odds.abnormal).abs().max() > 0.1  # not each the rest of the other
    joined = (scores.log_odds.abnormal.sigmoid() + 1 - scores.log_odds.normal.sigmoid()) / 2
    torch.testing.assert_close(scores.parts(smooth=False)[1], joined.amax((1, 2)))
    alone = model.scores(model.logits(images()[1:2]), (56, 56))
    torch.testing.assert_close(alone.smooth[0], scores.smooth[1], atol=1e-5, rtol=0)
    scaled = model.scores(logits._replace(patches=3 * logits.patches + 1), (56, 56))
    torch.testing.assert_close(scaled.maps, scores.maps, atol=1e-4, rtol=0)
    flat = model.scores(logits._replace(patches=torch.tensor([0.1, 0.4]).expand_as(logits.patches)), (56, 56))
    # What rounding alone makes is not stretched.
    torch.testing.assert_close(flat.smooth, torch.full((3, 56, 56), 0.5), atol=1e-2, rtol=0)


@torch.no_grad()
def test_with_a_residual_training_starts_with_clips_own_feature(small_clip):
    for kind in ("dwsep", "conv_adapter", "linear"):
        model = build(small_clip, moved=0.0, conv_adapter=kind, conv_adapter_residual=1.0).model
        *_, last = model.encoder(images()).tokens
        assert torch.equal(model.conv_adapter(last[:, 0], last[:, 1:], (4, 4)), last[:, 0])
        without = build(small_clip, moved=0.0, conv_adapter=kind).model.conv_adapter
        assert without.up.weight.abs().min() > 0


@torch.no_grad()
def test_the_image_score_rises_with_both_its_parts_and_mirrors_its_texts(small_clip):
    model = build(small_clip).model
    logits = model.logits(images())
    score = model.score(logits, (56, 56)).pred_score
    higher_text = logits._replace(image=logits.image + torch.tensor([0.0, 0.5]))
    higher_map = logits._replace(patches=logits.patches + torch.tensor([0.0, 0.5]))
    for higher in (higher_text, higher_map):
        assert (model.score(higher, (56, 56)).pred_score > score).all()
    mirrored = logits._replace(image=logits.image.flip(-1))
    both = model.scores(logits, (56, 56)).text + model.scores(mirrored, (56, 56)).text
    torch.testing.assert_close(both, torch.ones(3), atol=1e-6, rtol=0)


def test_what_learns_stays_in_float32_under_autocast(small_clip):
    model = build(small_clip, moved=0.02)
    exact = model.loss_terms(batch())["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss_terms(batch())
        terms["loss"].backward()
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert terms["loss"] != exact
    torch.testing.assert_close(terms["loss"], exact, atol=3e-2, rtol=0)
    assert {p.grad.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cls_source": "best"}, "cls_source must be one of original, vv, got 'best'"),
        ({"kd_scope": "batch"}, "kd_scope must be one of class, global, image, got 'batch'"),
        ({"kd_weighting": "half"}, "kd_weighting must be one of count, balanced, got 'half'"),
        ({"bica_cross": "both"}, "bica_cross must be one of parallel, sequential, got 'both'"),
        ({"bica_order": "both"}, "bica_order must be one of self_first, cross_first, got 'both'"),
        ({"map_norm": "sum"}, "map_norm must be one of softmax, minmax, got 'sum'"),
        ({"conv_adapter": "conv"}, "conv_adapter must be one of dwsep, conv_adapter, linear, got 'conv'"),
        ({"score_reduction": "sum"}, "score_reduction must be one of half, clamp, separate, logits, got 'sum'"),
        ({"text_ensemble": "max"}, "text_ensemble must be one of mean_raw, mean_normalized, got 'max'"),
        ({"vv_start_layer": 5}, "vv_start_layer must name a block from 1 to 4 of this backbone, got 5"),
        ({"feature_layers": [9]}, "feature_layers must name blocks from 1 to 4"),
        ({"bica_heads": 5}, "bica_heads.* must divide choices.bica_dim=32, got 5"),
        ({"deform_groups": 3}, "deform_groups must divide choices.bica_dim=32, got 4 and 3"),
        ({"bica_heads": 5, "deform_attention": "none"}, "bica_heads must divide choices.bica_dim=32, got 5"),
        ({"deform_kernel": 4}, r"deform_kernel must be an integer in \[1, 1023\] that is odd, got 4"),
        ({"prompt_length": 80}, "prompt_length must lie between 1 and 71 for this backbone and these states, got 80"),
        ({"normal_states": []}, "normal_states must be a list that is not empty"),
        ({"deep_prompt_depth": 2}, "deep_prompt_depth must lie between 0 and 1, .* after the first one, got 2"),
        (
            {"deep_prompt_depth": 1, "prompt_length": 3},
            "deep_prompt_length must lie between 1 and prompt_length=3, got 4",
        ),
        (
            {"conv_adapter": "conv_adapter", "bottleneck": 10},
            "needs a choices.bottleneck that divides the joint width 64, got 10",
        ),
    ],
)
def test_bad_arguments_are_named(small_clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(small_clip, **arguments)
