import open_clip
import pytest
import torch
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.anomaly_clip.adapter import ObjectPrompts

STATES = ("object.", "damaged object.")


@pytest.fixture(scope="module")
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=56)


@torch.no_grad()
def test_vectors_stand_in_the_places_of_twelve_words(clip):
    prompts = ObjectPrompts(clip, STATES, depth=1)
    assert prompts.deep is None
    tokens = clip.tokenize([f"{'X ' * 12}{state}" for state in STATES])
    assert tokens[:, :18].tolist() == [
        [49406, *[343] * 12, 14115, 269, 49407, 0, 0],
        [49406, *[343] * 12, 13568, 14115, 269, 49407, 0],
    ]
    words = clip.embed_tokens(tokens)
    words[:, 1:13] = prompts.vectors
    assert prompts.end.tolist() == [15, 16]
    expected = F.normalize(clip.encode_text(words, torch.tensor([15, 16])), dim=-1)
    torch.testing.assert_close(prompts(clip), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_deep_tokens_change_both_prompts(clip):
    prompts = ObjectPrompts(clip, STATES)
    assert prompts.deep.tokens.shape == (1, 4, 64)  # the small text tower has two blocks
    before = prompts(clip)
    prompts.deep.tokens.neg_()
    assert ((prompts(clip) - before).abs().amax(1) > 1e-3).all()


def test_the_published_sizes_have_the_number_of_parameters_of_the_sheet():
    text = {"width": 64, "heads": 1, "layers": 12}
    vision = {"image_size": 28, "patch_size": 14, "width": 64, "layers": 1}
    clip = FrozenClip(open_clip.CLIP(64, vision, text), image_size=28)
    count = sum(parameter.numel() for parameter in ObjectPrompts(clip, STATES).parameters())
    assert count * 768 // 64 == 43_008  # of twelve blocks of width 768


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 3}, "prompt_depth must lie between 1 and 2, the text blocks of this backbone, got 3"),
        ({"length": 73}, "prompt_length must lie between 0 and 72 for this backbone and these prompts, got 73"),
        ({"length": 3}, "deep_prompt_length must lie between 1 and prompt_length=3, got 4"),
    ],
)
def test_what_does_not_fit_is_refused(clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        ObjectPrompts(clip, STATES, **arguments)
