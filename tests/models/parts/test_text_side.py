"""Text features: encoded once for every class and state of the prompts, and a constant once folded."""

import pytest
import torch
from torch import nn

from anomalib_zsad import AFClip
from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.parts.text_side import TextSide, encode_sentences


class _Prompts(nn.Module):
    """Sentences with a learnt scale, which note what they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.encoded = []

    def forward(self, clip, names=("thing",)):
        self.encoded.append(list(names))
        features = {name: self.scale * encode_sentences(clip, [f"a good {name}", f"a bad {name}"]) for name in names}
        return features if names != ("thing",) else features["thing"]


@pytest.fixture
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=56)


@pytest.fixture
def prompts():
    return _Prompts()


@torch.no_grad()
def test_each_class_is_encoded_once_until_the_prompts_change(clip, prompts):
    side = TextSide("object")
    features = side(prompts, clip, ["nut", "bolt", "nut"])
    assert torch.equal(features, torch.stack([prompts(clip, [name])[name] for name in ("nut", "bolt", "nut")]))
    prompts.encoded.clear()
    assert torch.equal(side(prompts, clip, ["bolt"]), features[1:2])
    assert torch.equal(side(prompts, clip)[0], prompts(clip, ["object"])["object"])
    assert prompts.encoded == [["object"], ["object"]]
    prompts.scale *= 2
    assert torch.equal(side(prompts, clip, ["nut"])[0], 2 * features[0])


def test_what_learns_is_encoded_at_every_step_each_class_once(clip, prompts):
    side = TextSide("object")
    for _ in range(2):
        side(prompts, clip, ["nut", "bolt", "nut"]).sum().backward()
    assert prompts.encoded == [["nut", "bolt"]] * 2
    assert prompts.scale.grad.abs() > 0


@torch.no_grad()
def test_without_classes_there_is_one_text_for_all_images(clip, prompts):
    side = TextSide()
    first, again = side(prompts, clip), side(prompts, clip)
    assert first.shape == (2, clip.joint_width)
    assert torch.equal(first, again)
    assert len(prompts.encoded) == 1


@torch.no_grad()
@pytest.mark.parametrize("class_name", [None, "nut"])
def test_folded_text_is_a_constant_that_needs_no_text_tower(clip, prompts, class_name):
    side = TextSide(class_name)
    expected = side(prompts, clip)
    side.fold(prompts, clip)
    assert torch.equal(side(prompts, clip.without_text(), ["bolt"]), expected)
    assert side.state_dict() == {}


def test_a_model_is_built_outside_of_inference_mode(small_clip):
    message = r"AFClip: expected to be built outside of torch\.inference_mode.*build it before, and run it inside"
    with torch.inference_mode(), pytest.raises(RuntimeError, match=message):
        AFClip(pretrained=small_clip, image_size=56)
