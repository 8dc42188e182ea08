"""Text of classes: encoded once for every class and state of the prompts, and each image by its own."""

import pytest
import torch

from anomalib_zsad.data.item import CategoryBatch
from tests.models.kano_clip.building import build
from tests.support.contract import batch, images


@pytest.fixture
def model(small_clip):
    return build(small_clip)


@pytest.fixture
def encoded(model, monkeypatch):
    """How many prompts were encoded each time."""
    counts = []
    encode = model.model.encoder.clip.encode_text

    def counting(words, *more):
        counts.append(len(words))
        return encode(words, *more)

    monkeypatch.setattr(model.model.encoder.clip, "encode_text", counting)
    return counts


@torch.no_grad()
def test_a_class_is_encoded_once_until_the_prompts_change(model, encoded):
    before = model.model(images(), ["candle", "bottle", "candle"])
    model.model(images(2), ["bottle", "candle"])
    assert encoded == [2 * 4]
    model.model(images(1), ["cashew"])
    assert encoded == [8, 4]
    model.model.prompts.vectors += 0.1
    after = model.model(images(), ["candle", "bottle", "candle"])
    assert encoded == [8, 4, 8]
    assert not torch.equal(before.pred_score, after.pred_score)


def test_training_encodes_each_class_of_a_batch_and_its_knowledge_once(model, encoded):
    model.loss_terms(batch())  # candle, pcb1, candle
    descriptions = len(set(model.knowledge.texts("candle") + model.knowledge.texts("pcb1")))
    assert encoded == [2 * 4, descriptions]
    model.loss_terms(batch())
    assert encoded == [2 * 4, descriptions, 2 * 4]


@torch.no_grad()
def test_a_mixed_batch_scores_as_its_images_alone(model):
    names = ["wood", "printed circuit board", "object"]
    mixed = model.model(images(), names)
    alone = [model.model(image[None], [name]) for image, name in zip(images(), names, strict=True)]
    torch.testing.assert_close(mixed.pred_score, torch.cat([each.pred_score for each in alone]), atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed.anomaly_map, torch.cat([each.anomaly_map for each in alone]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_images_go_by_their_categories_unless_a_class_is_named(small_clip, model):
    given = CategoryBatch(image=images(2), category=["metal_nut", "pcb2"])
    expected = model.model(images(2), ["metal nut", "printed circuit board"])
    assert torch.equal(model.predict_batch(given).pred_score, expected.pred_score)
    own = build(small_clip, class_names={"metal_nut": "nut"})
    assert own.names_of(given) == ["nut", "printed circuit board"]
    one = build(small_clip, class_name="wood")
    assert one.names_of(given) == ["wood", "wood"]
    assert torch.equal(one.model(images(2)).pred_score, model.model(images(2), ["wood"] * 2).pred_score)
    assert torch.equal(model.model(images(2)).pred_score, model.model(images(2), ["object"] * 2).pred_score)


@torch.no_grad()
def test_folded_text_needs_neither_text_tower_nor_knowledge(model, encoded):
    expected = model.model(images())
    model.model.fold_text()
    assert model.model.encoder.clip.clip.transformer is None
    result = model.model(images())
    assert encoded == [4]
    assert torch.equal(result.pred_score, expected.pred_score)
    assert torch.equal(result.anomaly_map, expected.anomaly_map)
    with pytest.raises(RuntimeError, match="expected a model with its text tower"):
        model.model.knowledge_of([["A scratch."]])
