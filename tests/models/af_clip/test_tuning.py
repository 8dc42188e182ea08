"""Table 5 of the AF-CLIP paper: other ways of fine-tuning the vision tower."""

import copy

import open_clip
import pytest
import torch
from torch import nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.clip.named import config_of
from anomalib_zsad.models import AFClip
from anomalib_zsad.models.af_clip.adapter import Adaptor
from anomalib_zsad.models.af_clip.tuning import LowRankAttention, VisionPrompts, tuning_of
from tests.support.contract import batch, images

OTHERS = ["prompt", "prefix", "lora"]


def moved(small_clip, tuning, **arguments) -> AFClip:
    """A model as if it were trained."""
    model = AFClip(pretrained=small_clip, image_size=56, tuning=tuning, **arguments).eval()
    model.trained_on = ["VisA/candle"]
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model


@pytest.mark.parametrize(
    ("tuning", "count"), [("prompt", 21_504), ("prefix", 70_656), ("lora", 2_106_368), ("adaptor", 2_109_440)]
)
def test_vit_l_learns_as_many_parameters_as_the_paper_says(tuning, count):
    with torch.device("meta"):
        clip = FrozenClip(open_clip.CLIP(**config_of("ViT-L-14-336")), 518)
        tuned = tuning_of(tuning, clip, clip.quarters()) or Adaptor(clip.vision_width)
    of_text = 12 * clip.text_width
    assert of_text == 9216
    assert sum(each.numel() for each in tuned.parameters()) + of_text == count


@pytest.mark.parametrize("tuning", OTHERS)
def test_everything_learns_and_the_adaptor_is_not_there(small_clip, tuning):
    model = moved(small_clip, tuning)
    model.loss_terms(batch())["loss"].backward()
    learning = {name.split(".")[0]: each for name, each in model.model.named_parameters() if each.requires_grad}
    assert learning.keys() == {"prompts", "tuning"}
    assert all(each.grad.abs().max() > 0 for each in model.parameters() if each.requires_grad)


@torch.no_grad()
@pytest.mark.parametrize("tuning", OTHERS)
def test_weights_and_their_tuning_are_kept(small_clip, tuning, tmp_path):
    model = moved(small_clip, tuning)
    expected = model.model(images())
    model.save_weights(tmp_path / "tuned.safetensors")
    again = AFClip(pretrained=small_clip, weights=tmp_path / "tuned.safetensors").eval()
    assert torch.equal(again.model(images()).anomaly_map, expected.anomaly_map)
    plain = AFClip(pretrained=small_clip, image_size=56, adaptor=False).eval().model(images())
    assert (plain.anomaly_map - expected.anomaly_map).abs().max() > 1e-3


@torch.no_grad()
def test_lora_is_that_of_changed_weights(small_clip):
    clip = FrozenClip.load(pretrained=small_clip, image_size=56)
    lora = LowRankAttention(clip.vision_width, [2], rank=3)
    assert torch.equal(lora.read(clip, images(), [2])[0], clip.encode_patches(images(), [2])[0])
    nn.init.normal_(lora.up, std=0.1)
    (found,) = lora.read(clip, images(), [2])
    changed = copy.deepcopy(clip)
    attention = changed.clip.visual.transformer.resblocks[1].attn
    updates = [up @ down for up, down in zip(lora.up[0], lora.down[0], strict=True)]
    attention.in_proj_weight += torch.cat(updates[:3])
    attention.out_proj.weight += updates[3]
    torch.testing.assert_close(found, changed.encode_patches(images(), [2])[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_prefixes_replace_the_prompt_in_the_next_blocks(small_clip):
    clip = FrozenClip.load(pretrained=small_clip, image_size=56)
    prefix = VisionPrompts(clip.vision_width, length=2, depth=1)
    grid = clip.grid_of(56, 56)
    (first, third) = prefix.read(clip, images(), [1, 3])
    assert first.shape == third.shape == (3, 1 + grid[0] * grid[1], clip.vision_width)
    prefix.tokens[1] += 1
    assert torch.equal(prefix.read(clip, images(), [1])[0], first)
    assert not torch.equal(prefix.read(clip, images(), [3])[0], third)


def test_features_of_a_tuned_tower_are_not_cached(small_clip, tmp_path):
    with pytest.raises(ValueError, match="which tuning='lora' changes with every step: expected tuning='adaptor'"):
        AFClip(pretrained=small_clip, image_size=56, tuning="lora", cache_features=tmp_path)
