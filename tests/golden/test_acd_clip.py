"""ACD-CLIP against every number that the authors' implementation gave on a small CLIP."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.acd_clip.released import own_name
from tests.golden.golden_files import assert_near, golden, golden_clip_file

GROUPS = 2
STORED = 64  # values of a gradient with over 512 elements


@pytest.fixture(scope="module")
def expected():
    return golden("acdclip")


@pytest.fixture(scope="module")
def files(expected, tmp_path_factory):
    """The golden file's CLIP, and its adapter as the authors publish theirs."""
    folder = tmp_path_factory.mktemp("golden")
    parts = {
        part: {
            key.removeprefix(f"adapter/{part}/"): value
            for key, value in expected.items()
            if key.startswith(f"adapter/{part}/")
        }
        for part in ("text_adapter", "image_adapter")
    }
    torch.save({"epoch": 20, **parts}, folder / "adapter.pth")
    return golden_clip_file("acdclip", folder / "clip.pt"), folder / "adapter.pth"


@pytest.fixture(scope="module")
def model(files):
    clip, adapter = files
    return ACDClip.load_released(adapter, pretrained=clip, image_size=84, class_name="bottle")


@pytest.fixture(scope="module")
def batch(expected):
    mask = expected["input/mask"][:, 0]
    return CategoryBatch(image=expected["input/image"], gt_label=expected["input/label"], gt_mask=mask)


@pytest.fixture(scope="module")
def losses(model, batch):
    model.zero_grad()
    terms = model.loss_terms(batch)
    terms["loss"].backward()
    return terms


def test_groups_are_read_from_the_checkpoint(model):
    assert model.model.vision.layers == [6, 12]
    assert model.model.text.layers == [2, 4]


def test_text_features(model, expected):
    (features,) = model.model.text_features()
    assert_near(features, expected["expected/text_features"], 1e-5)


@torch.no_grad()
def test_tokens_of_the_heads(model, expected):
    patches = [tokens[:, 1:] for tokens in model.model.encoder(expected["input/image"]).tokens]
    for group in range(GROUPS):
        segmentation = model.model.vision.segmentation[group](patches[group])
        detection = model.model.vision.detection[group](patches[group]).mean(1)
        assert_near(segmentation, expected["expected/seg_tokens"][group], 1e-5)
        assert_near(detection, expected["expected/det_tokens"][group], 1e-5)


@torch.no_grad()
def test_class_logits_and_probabilities_in_training(model, expected):
    logits = model.model.logits(expected["input/image"])
    maps = model.model.anomaly_map(logits, size=(84, 84))
    assert_near(logits.image, expected["expected/cls_logits"], 1e-5)
    assert_near(torch.stack([1 - maps, maps], dim=1), expected["expected/seg_prob_train"], 1e-5)


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("loss_class", "cls"),
        ("loss_focal", "focal"),
        ("loss_dice_normal", "dice_normal"),
        ("loss_dice_anomalous", "dice_anomalous"),
        ("loss", "total"),
    ],
)
def test_losses(losses, expected, term, name):
    assert_near(losses[term], expected[f"expected/loss_{name}"], 1e-5)


@pytest.mark.usefixtures("losses")
def test_gradients(model, expected):
    gradients = {
        key.removeprefix("expected/grad/"): g for key, g in expected.items() if key.startswith("expected/grad")
    }
    trained = {name: parameter for name, parameter in model.model.named_parameters() if parameter.requires_grad}
    names = {own_name(key.replace("/", ".", 1), Path("golden")): gradient for key, gradient in gradients.items()}
    assert names.keys() == trained.keys()
    for name, gradient in names.items():
        ours = trained[name].grad
        if ours.numel() > 512:
            ours = ours.flatten()[:: ours.numel() // STORED]
        assert_near(ours, gradient, 1e-6)
        assert gradient.abs().max() > 1e-5  # so that the comparison means something


@torch.no_grad()
@pytest.mark.parametrize("domain", ["industrial", "medical"])
def test_maps_and_scores(files, expected, domain):
    clip, adapter = files
    model = ACDClip.load_released(adapter, pretrained=clip, image_size=84, class_name="bottle", domain=domain)
    result = model.model(expected["input/image"])
    assert_near(result.anomaly_map[:, 0], expected[f"expected/{domain}/map"], 1e-5)
    assert_near(result.pred_score, expected[f"expected/{domain}/score"], 1e-5)


@torch.no_grad()
def test_a_batch_of_a_category_scores_as_a_class_of_that_name(files, batch, expected):
    clip, adapter = files
    model = ACDClip.load_released(adapter, pretrained=clip, image_size=84)
    named = CategoryBatch(image=batch.image, gt_label=batch.gt_label, gt_mask=batch.gt_mask, category=["bottle"] * 2)
    assert_near(model.predict_batch(named).pred_score, expected["expected/industrial/score"], 1e-5)
    assert not torch.allclose(model.predict_batch(batch).pred_score, expected["expected/industrial/score"])


def test_unit_length(model):
    features = model.model.text_features()
    assert torch.allclose(F.normalize(features, dim=2), features, atol=1e-6)
