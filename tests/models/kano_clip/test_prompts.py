"""Prompts and what they are drawn to."""

import pytest
import torch

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.kano_clip.prompts import KnowledgePrompts, KnowledgeTargets
from anomalib_zsad.models.parts.class_names import ClassNames, readable_words
from anomalib_zsad.models.parts.text_side import encode_sentences
from tests.models.kano_clip import reference
from tests.models.kano_clip.building import build


@pytest.fixture(scope="module")
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=56)


@pytest.fixture
def prompts(clip):
    torch.manual_seed(0)
    return KnowledgePrompts(clip)


@pytest.fixture
def words(clip, monkeypatch):
    """The words and ends of all that the text tower has encoded."""
    seen = []
    encode = clip.encode_text

    def noting(words, end, *more):
        seen.append((words.detach(), end))
        return encode(words, end, *more)

    monkeypatch.setattr(clip, "encode_text", noting)
    return seen


def test_exactly_the_places_after_the_start_hold_the_vectors(clip, prompts, words):
    prompts(clip, ["bottle"])
    given, _ = words[0]
    embedded = clip.embed_tokens(clip.tokenize([text for state in prompts.of("bottle") for text in state]))
    same = (given == embedded[:, : given.shape[1]]).all(-1)
    assert same.all(0).tolist() == [not 1 <= place <= 12 for place in range(given.shape[1])]
    for row, state in enumerate((0, 0, 1, 1)):
        assert torch.equal(given[row, 1:13], prompts.vectors[state])


def test_the_end_moves_with_adjective_and_class(clip, prompts, words):
    prompts(clip, ["bottle", "printed circuit board"])
    _, end = words[0]
    assert end[0] + 1 == end[3]  # "defective" is one token longer than "normal"
    assert (end[4:] == end[:4] + 2).all()
    assert words[0][0].shape[1] == end.max() + 1


@torch.no_grad()
def test_a_class_changes_its_features_and_a_very_long_one_still_ends(clip, prompts, words):
    features = prompts(clip, ["bottle", "cable", " ".join(["bottle"] * 70)])
    assert (features["bottle"] - features["cable"]).abs().max() > 1e-3
    assert (features["bottle"][0] - features["bottle"][1]).abs().max() > 1e-3
    given, end = words[0]
    assert given.shape[1] == clip.context_length == end.max() + 1


@torch.no_grad()
def test_truncated_prompts_are_those_of_full_length(small_clip):
    model = build(small_clip).model
    deep = build(small_clip, deep_prompt_depth=1, deep_prompt_length=3).model
    for name in ("bottle", "printed circuit board"):
        for each in (model, deep):
            expected = reference.text_of(each, name)
            torch.testing.assert_close(each.prompts(each.encoder.clip, [name])[name], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_target_is_the_mean_of_raw_features(clip):
    sets = [["A scratched bottle.", "A bottle with a hole."], ["A frayed cable.", "A cut cable.", "A bent cable."]]
    targets = KnowledgeTargets(clip.joint_width)
    means = targets(clip, sets)
    for mean, texts in zip(means, sets, strict=True):
        expected = sum(encode_sentences(clip, [text])[0] for text in texts) / len(texts)
        torch.testing.assert_close(mean, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(targets(clip, [sets[0][::-1]])[0], means[0])
    more = targets(clip, [[*sets[0], sets[0][1]]])[0]
    single = encode_sentences(clip, sets[0][1:])[0]
    assert (more - single).norm() < (means[0] - single).norm()


def test_each_description_is_encoded_once_and_learns_nothing(clip, words):
    targets = KnowledgeTargets(clip.joint_width)
    first = targets(clip, [["A scratch.", "A hole."], ["A hole."]])
    assert torch.equal(targets(clip, [["A scratch.", "A hole."], ["A hole."]]), first)
    assert [len(given) for given, _ in words] == [2]
    targets(clip, [["A hole.", "A stain."]])
    assert [len(given) for given, _ in words] == [2, 1]
    assert not targets.features.requires_grad
    assert not first.requires_grad
    assert not targets.state_dict()


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("metal_nut", "metal nut"),
        ("pcb3", "printed circuit board"),
        ("chewinggum", "chewing gum"),
        ("macaroni2", "macaroni"),
        ("Class7", "object"),
        ("01", "object"),
        ("Woven_001", "woven"),
        ("Retina_OCT2017", "retinal OCT"),
    ],
)
def test_words_for_classes(category, words):
    assert ClassNames(readable_words).describe(category) == words
    assert ClassNames(readable_words, {category.lower(): "thing"}).describe(category) == "thing"
