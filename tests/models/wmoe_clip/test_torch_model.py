"""WMoE-CLIP against its equations, written out slowly, and what each of its parts changes."""

from functools import partial

import numpy as np
import pytest
import torch

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.functional.scoring import cosines
from anomalib_zsad.models.wmoe_clip import WMoEClip
from anomalib_zsad.models.wmoe_clip.adapter import PatchProjections, WaveletCrossAttention
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.experts import LayerContext, SemanticExperts
from anomalib_zsad.models.wmoe_clip.sampler import ClassTokenSampler
from tests.models.wmoe_clip.building import build, build_like, noise
from tests.models.wmoe_clip.reference import Reference, losses
from tests.support.choices import with_choices
from tests.support.contract import batch, images

GRIDS = {(56, 56): (4, 4), (42, 70): (3, 5)}


def slow(model, pictures, grid, drawn=None, **options):
    taps = [tap.double().numpy() for tap in model.encoder(pictures).tokens]
    reference, size = Reference(model, **options), tuple(pictures.shape[-2:])
    draws = [None] * len(pictures) if drawn is None else drawn.double().numpy()
    return [reference.image([tap[i] for tap in taps], grid, size, draws[i]) for i in range(len(pictures))]


@torch.no_grad()
@pytest.mark.parametrize("size", GRIDS)
@pytest.mark.parametrize(
    "options", [{}, {"wcma_residual": True}, {"use_wcma": False}, {"use_samoe": False}, {"gate_bn": True}]
)
def test_scores_are_those_of_the_equations(small_clip, size, options):
    model, pictures = build(small_clip, **options).model, images(2, size)
    residual = {"residual": True} if options.get("wcma_residual") else {}
    expected = slow(model, pictures, GRIDS[size], **residual)
    result = model(pictures)
    np.testing.assert_allclose(result.pred_score, [each["score"] for each in expected], atol=2e-5)
    np.testing.assert_allclose(result.anomaly_map[:, 0], [each["anomaly_map"] for each in expected], atol=2e-5)


@torch.no_grad()
def test_losses_are_those_of_the_equations(small_clip):
    model, data, drawn = build(small_clip), batch(), noise()
    model.model.draw = lambda generators: (drawn[: len(generators)], None)
    expected = losses(slow(model.model, data.image, (4, 4), drawn), data.gt_label.numpy(), data.gt_mask.numpy())
    terms = model.loss_terms(data)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-5), name


@torch.no_grad()
def test_the_reference_chooses_the_same_experts(small_clip):
    model = build(small_clip).model
    weights = model.logits(images()).routed.weights
    for row, each in zip(weights, slow(model, images(), (4, 4)), strict=True):
        assert set(row.nonzero().flatten().tolist()) == each["chosen"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("changed", "in_map", "in_score"),
    [
        ({"use_ctds": False}, True, True),
        ({"use_wcma": False}, True, True),
        ({"use_samoe": False}, False, True),
        ({"states": ("a good", "a bad")}, True, True),
        ({"prompt_length": 3}, True, True),
        ({"prompt_scale": 0.1}, True, True),
        ({"prompt_latent": "latent"}, True, True),
        ({"cls_scale": "unit"}, True, True),
        ({"cls_scale": "sqrt_dim"}, True, True),
        ({"inference_sampling": "fixed"}, True, True),
        ({"patch_projection": "clip"}, True, True),
        ({"patch_projection_init": "xavier"}, True, True),
        ({"patch_ln_post": False}, True, True),
        ({"wavelet_kind": "swt"}, True, True),
        ({"wavelet_return": "bilinear"}, True, True),
        ({"wavelet_return": "nearest"}, True, True),
        ({"wavelet_return": "none"}, True, True),
        ({"wcma_shared": False}, True, True),
        ({"wcma_heads": 4}, True, True),
        ({"wcma_residual": True}, True, True),
        ({"gate_reduction": 4}, True, True),
        ({"gate_bn": True}, True, True),
        ({"map_features": "frequency"}, True, True),
        ({"map_reduction": "sum"}, False, True),
        ({"moe_adapter": "concat"}, False, True),
        ({"n_experts": 4}, False, True),
        ({"top_k": 1}, False, True),
        ({"expert_hidden": 16}, False, True),
        ({"gate_noise": True}, False, False),  # which is for training alone
        ({"vae_hidden": 16}, True, True),
        ({"temperature": 0.2}, True, True),
        ({"score_temperature": 0.2}, False, True),
        ({"sigma": 4.0}, True, False),
        ({"sigma": 0.0}, True, False),
        ({"smooth_score": True}, False, True),
        ({"feature_layers": (1, 3)}, True, True),
    ],
)
def test_every_part_changes_the_result(base, small_clip, changed, in_map, in_score):
    # What parameters start as is all that such an argument decides.
    like = build if "patch_projection_init" in changed else partial(build_like, base)
    ours, other = base.model(images()), like(small_clip, **changed).model(images())
    assert (not torch.allclose(ours.anomaly_map, other.anomaly_map, atol=1e-5)) == in_map
    assert (not torch.allclose(ours.pred_score, other.pred_score, atol=1e-6)) == in_score


@pytest.fixture(scope="module")
def base(small_clip):
    return build(small_clip)


@torch.no_grad()
def test_without_ctds_all_images_have_the_same_text(small_clip):
    for use_ctds in (True, False):
        model = build(small_clip, use_ctds=use_ctds).model
        text, sample = model._text(model._class_token(model.encoder(images())), model.text_features(), None)
        assert torch.allclose(text[0], text[1], atol=1e-4) != use_ctds
        assert (sample is None) != use_ctds


@torch.no_grad()
def test_refined_text_differs_between_layers(small_clip):
    attended = build(small_clip).model.logits(images()).attended
    assert len(attended) == 4
    assert not torch.allclose(attended[0].text, attended[1].text, atol=1e-3)


@torch.no_grad()
def test_experts_add_to_the_class_token(small_clip):
    plain, mixed = build(small_clip, use_samoe=False).model, build(small_clip).model
    plain.load_state_dict(mixed.state_dict(), strict=False)
    logits = mixed.logits(images())
    token = mixed._class_token(mixed.encoder(images()))
    text, _ = mixed._text(token, None, None)
    for model, expected in ((plain, token), (mixed, token + logits.routed.mix)):
        cosines = torch.nn.functional.cosine_similarity(expected[:, None], text, dim=-1)
        torch.testing.assert_close(model.logits(images()).image, cosines / 0.07, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_maps_are_those_of_cosines_of_both_states(small_clip):
    model = build(small_clip, sigma=0.0).model
    logits = model.logits(images())
    maps = model.layer_maps(logits, (56, 56))
    torch.testing.assert_close(model.layer_maps(logits._replace(patches=logits.patches.flip(-1)), (56, 56)), 1 - maps)
    assert logits.patches.abs().max() <= 1 / 0.07 + 1e-4
    assert logits.patches.std() > 0.1
    brighter = logits.image + torch.tensor([0.0, 1.0])
    assert (
        model.score(logits._replace(image=brighter), (56, 56)).pred_score > model.score(logits, (56, 56)).pred_score
    ).all()
    higher = logits.patches + torch.tensor([0.0, 1.0])
    assert (
        model.score(logits._replace(patches=higher), (56, 56)).pred_score > model.score(logits, (56, 56)).pred_score
    ).all()


@torch.no_grad()
def test_the_sum_of_maps_counts_once_a_layer(base, small_clip):
    summed = build(small_clip, map_reduction="sum").model
    logits = summed.logits(images())
    text, peak = logits.image.softmax(-1)[:, 1], base.model.layer_maps(logits, (56, 56)).sum(1).amax((1, 2))
    torch.testing.assert_close(summed.score(logits, (56, 56)).pred_score, (text + peak) / 5)


@torch.no_grad()
def test_longer_patches_change_no_cosine(small_clip):
    tokens, text = torch.randn(2, 9, 8), torch.randn(2, 2, 8)
    expected = torch.nn.functional.cosine_similarity(tokens[:, :, None], text[:, None], dim=-1)
    torch.testing.assert_close(cosines(tokens, text), expected)
    torch.testing.assert_close(cosines(2 * tokens, text), expected)


@torch.no_grad()
def test_sampling_outside_of_training(small_clip):
    fixed = build(small_clip, inference_sampling="fixed").model
    torch.testing.assert_close(fixed(images()).pred_score, fixed(images()).pred_score, atol=0, rtol=0)
    torch.testing.assert_close(fixed(images()).pred_score[:1], fixed(images()[:1]).pred_score, atol=1e-5, rtol=0)
    drawn = build(small_clip, inference_sampling="monte_carlo")
    assert not torch.equal(drawn.model(images()).pred_score, drawn.model(images()).pred_score)
    drawn.trained_on = ["VisA/candle"]
    with pytest.raises(ValueError, match='inference_sampling="monte_carlo" draws new numbers'):
        drawn.check_exportable()


@torch.no_grad()
def test_the_text_tower_runs_once_for_all_images(small_clip, monkeypatch):
    model = build(small_clip).model
    prompts, encode = [], model.encoder.clip.encode_text

    def counting(words, *more):
        prompts.append(len(words))
        return encode(words, *more)

    monkeypatch.setattr(model.encoder.clip, "encode_text", counting)
    model(images(3))
    assert prompts == [3 * 2]


@torch.no_grad()
def test_what_ships(small_clip):
    for use_ctds in (True, False):
        model = build(small_clip, use_ctds=use_ctds).model
        expected, whole = model(images()), model.encoder.clip
        model.fold_text()
        assert torch.equal(model(images()).pred_score, expected.pred_score)
        assert model.encoder.clip.clip.token_embedding is None
        assert (model.encoder.clip.clip.transformer is None) != use_ctds
        assert whole.clip.token_embedding is not None


def test_the_number_of_parameters_at_the_size_of_the_paper(small_clip):
    """11,626,248 at ViT-L: width 1024, joint width 768, four layers; built without memory."""
    clip = FrozenClip.load(pretrained=small_clip, image_size=56)

    class Large:
        vision_width, joint_width = 1024, 768
        projection = torch.empty(1024, 768, device="meta")

    with torch.device("meta"):
        parts = {
            "sampler": ClassTokenSampler(768),
            "projections": PatchProjections(Large(), 4),
            "attention": WaveletCrossAttention(768),
            "normed": WaveletCrossAttention(768, WMoEChoices(gate_bn=True)),
            "experts": SemanticExperts(768, LayerContext(768, 4)),
        }
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert counts.pop("normed") == counts["attention"] + 3 * 2 * 768
    vectors = build(small_clip).model.prompts.vectors.numel() // clip.text_width * 768
    assert counts == {"sampler": 1_969_408, "projections": 3_148_800, "attention": 3_541_248, "experts": 2_963_720}
    assert sum(counts.values()) + vectors == 11_626_248


def test_the_wavelet_is_not_trained(small_clip):
    names = {name for name, _ in build(small_clip).named_parameters()}
    assert not any("kernels" in name for name in names)
    assert any(
        "log_temperatures" in name for name in dict(build(small_clip, learn_temperature=True).named_parameters())
    )
    assert not any("log_temperatures" in name for name in names)


def test_every_tensor_learns(small_clip):
    options = {"learn_temperature": True, "wcma_shared": False, "gate_bn": True, "gate_noise": True}
    model = WMoEClip(pretrained=small_clip, image_size=56, choices=WMoEChoices(**options))
    model.loss_terms(batch())["loss"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().max() > 0) == parameter.requires_grad, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wavelet_return": "cubic"}, "wavelet_return must be one of idwt, bilinear, nearest, none, got 'cubic'"),
        ({"map_reduction": "max"}, "map_reduction must be one of mean, sum, got 'max'"),
        ({"cls_scale": "big"}, "cls_scale must be one of raw, unit, sqrt_dim, got 'big'"),
        ({"wcma_heads": 5}, "wcma_heads must divide the joint width 64 of this backbone, got 5"),
        ({"map_features": "frequency", "use_wcma": False}, "needs use_wcma=True"),
        ({"feature_layers": (1, 2, 3)}, "needs a number of feature_layers that divides the joint width 64, got 3"),
        ({"feature_layers": (9,)}, "feature_layers must name blocks from 1 to 4"),
    ],
)
def test_bad_arguments_are_named(small_clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        WMoEClip(pretrained=small_clip, image_size=56, **with_choices(WMoEClip, arguments))
