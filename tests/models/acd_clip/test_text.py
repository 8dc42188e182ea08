"""Text of classes: computed once, to the last end of a prompt, and each image by its own."""

import pytest
import torch

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.models.acd_clip import ACDClip
from tests.support.contract import batch, images


@pytest.fixture
def model(small_clip):
    return ACDClip(pretrained=small_clip, image_size=56, n_groups=2).eval()


@pytest.fixture
def encoded(model, monkeypatch):
    """The shapes of all that the text tower has encoded."""
    shapes = []
    encode = model.model.encoder.clip.encode_words

    def counting(words, *more, **options):
        shapes.append(tuple(words.shape[:2]))
        return encode(words, *more, **options)

    monkeypatch.setattr(model.model.encoder.clip, "encode_words", counting)
    return shapes


@torch.no_grad()
def test_a_class_is_encoded_once_until_the_adapter_changes(model, encoded):
    before = model.model(images(), ["candle", "pcb1", "candle"])
    model.model(images(2), ["pcb1", "candle"])
    assert len(encoded) == 1
    assert encoded[0][0] == 2 * 16
    model.model(images(1), ["cashew"])
    assert [shape[0] for shape in encoded] == [32, 16]
    model.model.text.mixed[0].weight += 0.1
    after = model.model(images(), ["candle", "pcb1", "candle"])
    assert len(encoded) == 3
    assert not torch.equal(before.pred_score, after.pred_score)


@torch.no_grad()
def test_new_weights_of_a_checkpoint_are_noticed(model, small_clip):
    other = ACDClip(pretrained=small_clip, image_size=56, n_groups=2, seed=1)
    model.model(images())
    model.model.load_state_dict(other.model.state_dict(), strict=False)
    assert torch.equal(model.model(images()).pred_score, other.model(images()).pred_score)


def test_training_encodes_each_class_of_a_batch_once(model, encoded):
    model.loss_terms(batch())  # candle, pcb1, candle
    assert encoded[0][0] == 2 * 16
    assert len(encoded) == 1


def test_prompts_are_encoded_up_to_their_last_end(model, encoded):
    model.model(images(), ["bottle"] * 3)
    longest = max(
        model.model.encoder.clip.tokenize(texts).argmax(-1).max() for texts in model.model.text.prompts.of("bottle")
    )
    assert encoded == [(16, longest + 1)]


@torch.no_grad()
def test_a_mixed_batch_scores_as_its_images_alone(model):
    names = ["wood", "black and orange capsule", "object"]
    mixed = model.model(images(), names)
    alone = [model.model(image[None], [name]) for image, name in zip(images(), names, strict=True)]
    torch.testing.assert_close(mixed.pred_score, torch.cat([each.pred_score for each in alone]), atol=1e-6, rtol=0)
    torch.testing.assert_close(mixed.anomaly_map, torch.cat([each.anomaly_map for each in alone]), atol=1e-6, rtol=0)


@torch.no_grad()
def test_images_without_a_class_are_objects(model):
    assert torch.equal(model.model(images()).pred_score, model.model(images(), ["object"] * 3).pred_score)


@torch.no_grad()
def test_categories_of_a_batch_get_their_descriptive_names(model, small_clip):
    named = CategoryBatch(image=images(2), category=["metal_nut", "gear_box"])
    expected = model.model(images(2), ["metal nut which has four notched edges", "gear box"])
    assert torch.equal(model.predict_batch(named).pred_score, expected.pred_score)
    own = ACDClip(pretrained=small_clip, image_size=56, n_groups=2, class_names={"metal_nut": "nut"})
    assert torch.equal(own.predict_batch(named).pred_score, model.model(images(2), ["nut", "gear box"]).pred_score)


@torch.no_grad()
def test_a_class_name_overrides_the_categories(small_clip, model):
    one = ACDClip(pretrained=small_clip, image_size=56, n_groups=2, class_name="wood")
    named = CategoryBatch(image=images(2), category=["metal_nut", "gear_box"])
    expected = model.model(images(2), ["wood surface"] * 2)
    assert torch.equal(one.predict_batch(named).pred_score, expected.pred_score)
    assert torch.equal(one.model(images(2)).pred_score, expected.pred_score)


@torch.no_grad()
def test_folded_text_needs_no_text_tower(model, encoded):
    expected = model.model(images())
    model.model.fold_text()
    assert model.model.encoder.clip.clip.transformer is None
    result = model.model(images())
    assert len(encoded) == 1
    assert torch.equal(result.pred_score, expected.pred_score)
    assert torch.equal(result.anomaly_map, expected.anomaly_map)
