"""AnomalyCLIP against every number that the authors' implementation gave on a small CLIP."""

import pytest
import torch

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.models import AnomalyClip
from tests.golden.golden_files import assert_near, golden, golden_clip_file

LAYERS = (2, 4, 6, 8)
SETTINGS = {"image_size": 84, "choices": {"vv_start_layer": 2}}
LOCAL = ("loss_focal", "loss_dice_anomalous", "loss_dice_normal")


@pytest.fixture(scope="module")
def expected():
    return golden("anomalyclip")


@pytest.fixture(scope="module")
def files(expected, tmp_path_factory):
    """The golden file's CLIP, and its prompts as the authors release theirs, with parts that no training ever ran."""
    folder = tmp_path_factory.mktemp("golden")
    learner = {key.removeprefix("learner/"): value for key, value in expected.items() if key.startswith("learner/")}
    learner |= {f"compound_prompt_projections.{i}.weight": torch.ones(896, 64) for i in range(3)}
    torch.save({"prompt_learner": learner}, folder / "epoch_15.pth")
    return golden_clip_file("anomalyclip", folder / "clip.pt"), folder / "epoch_15.pth"


def load(files, **arguments):
    clip, checkpoint = files
    return AnomalyClip.load_released(checkpoint, pretrained=clip, **SETTINGS, **arguments)


@pytest.fixture(scope="module")
def model(files):
    return load(files)


@pytest.fixture(scope="module")
def of_all_layers(files):
    return load(files, feature_layers=LAYERS)


@pytest.fixture(scope="module")
def batch(expected):
    mask = expected["input/mask"][:, 0]
    return CategoryBatch(image=expected["input/image"], gt_label=expected["input/label"], gt_mask=mask)


def learnt(expected, kind):
    """What the golden file has for each of our parameters."""
    given = {key.removeprefix(f"expected/{kind}/"): value for key, value in expected.items() if f"/{kind}/" in key}
    vectors = torch.cat([given["ctx_pos"][0], given["ctx_neg"][0]])
    return {
        "prompts.vectors": vectors,
        "prompts.deep.tokens": torch.stack([given[f"compound_prompts_text.{i}"] for i in range(3)]),
    }


def test_lengths_are_read_from_the_checkpoint(model):
    assert model.model.prompts.vectors.shape == (2, 12, 64)
    assert model.model.prompts.deep.tokens.shape == (3, 4, 64)


def test_text_features(model, expected):
    assert_near(model.model.text_features(), expected["expected/text_features"], 1e-5)


def test_tokens(of_all_layers, expected):
    encoder = of_all_layers.model.encoder
    local, _ = encoder.clip.encode_patches_vv(expected["input/image"], LAYERS, start=2)
    taps = encoder(expected["input/image"])
    for layer, stream, tokens in zip(LAYERS, local, taps.tokens, strict=True):
        assert_near(stream, expected[f"expected/vv_tokens/{layer}"])
        assert_near(tokens[:, 1:], expected[f"expected/patch_tokens/{layer}"][:, 1:])
        assert_near(tokens[:, 0], expected["expected/class_feature"])


def test_logits(of_all_layers, expected):
    logits = of_all_layers.model.logits(expected["input/image"])
    assert_near(logits.image, expected["expected/logits"])
    for layer, patches in zip(LAYERS, logits.patches.unbind(1), strict=True):
        assert_near(patches.flatten(1, 2), expected[f"expected/patch_logits/{layer}"][:, 1:])


@torch.no_grad()
def test_scores_and_maps(model, of_all_layers, expected):
    result, of_all = (each.model(expected["input/image"]) for each in (model, of_all_layers))
    assert_near(result.pred_score, expected["expected/score"], 1e-5)
    assert_near(result.anomaly_map[:, 0], expected["expected/map"], 1e-5)
    assert_near(of_all.pred_score, expected["expected/score"], 1e-5)
    assert_near(len(LAYERS) * of_all.anomaly_map[:, 0], expected["expected/multilayer/map"], 1e-5)  # theirs is the sum


def test_the_maps_of_the_training(model, expected):
    maps = model.model.training_maps(model.model.logits(expected["input/image"]), (84, 84))[0]
    assert_near(torch.stack([1 - maps, maps], dim=1), expected["expected/train_map"], 1e-5)


def test_losses_and_gradients(model, batch, expected):
    model.zero_grad()
    terms = model.loss_terms(batch)
    for name in ("loss_image", *LOCAL):
        assert_near(terms[name], expected[f"expected/{name}"], 2e-6)
    assert_near(sum(terms[name] for name in LOCAL), expected["expected/loss_local"], 2e-6)
    assert_near(terms["loss"], expected["expected/loss_total"], 1e-5)
    terms["loss"].backward()
    for name, gradient in learnt(expected, "grad_learner").items():
        assert_near(model.model.get_parameter(name).grad, gradient, 1e-5)
        assert gradient.abs().max() > 1e-3  # so that the comparison means something


def test_losses_of_several_layers_are_summed(of_all_layers, batch, expected):
    of_all_layers.zero_grad()
    terms = of_all_layers.loss_terms(batch)
    for name in LOCAL:
        theirs = sum(expected[f"expected/multilayer/{name}/{layer}"] for layer in LAYERS)
        assert_near(terms[name], theirs, 1e-5)
    assert_near(terms["loss"], expected["expected/multilayer/loss_total"], 2e-5)
    terms["loss"].backward()
    for name, gradient in learnt(expected, "multilayer/grad_learner").items():
        assert_near(of_all_layers.model.get_parameter(name).grad, gradient, 5e-5)


def test_three_steps_of_training(files, batch, expected):
    model = load(files)
    optimizer = model.configure_optimizers()
    for local, image in expected["expected/train_losses"]:
        terms = model.loss_terms(batch)
        assert_near(sum(terms[name] for name in LOCAL), local, 1e-4)
        assert_near(terms["loss_image"], image, 1e-4)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    for name, value in learnt(expected, "after_training").items():
        assert_near(model.model.get_parameter(name), value)
