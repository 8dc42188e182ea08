"""What a method reads of its frozen backbone."""

from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models import AFClip
from anomalib_zsad.models.parts.encoder import Encoder
from tests.support.contract import images


@pytest.fixture
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=(42, 56))


@torch.no_grad()
def test_taps_are_the_residual_stream_and_the_grid_of_the_patches(clip):
    pictures = images()[..., :42, :]
    taps = Encoder(clip, [2, 4])(pictures)
    assert taps.grid == (3, 4)
    for tokens, expected in zip(taps.tokens, clip.encode_patches(pictures, [2, 4]), strict=True):
        assert torch.equal(tokens, expected)


@torch.no_grad()
@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_runs_the_backbone_alone(clip, autocast):
    (exact,) = Encoder(clip, [4])(images()).tokens
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        (rounded,) = Encoder(clip, [4], "fp32" if autocast else "bf16")(images()).tokens
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.1)


def test_a_layer_that_the_backbone_lacks_is_refused(clip):
    with pytest.raises(ValueError, match="feature_layers must name blocks from 1 to 4 of this backbone"):
        Encoder(clip, [5])


@dataclass(frozen=True)
class _Twice:
    factor: float = 2.0

    def __call__(self, clip, pictures, layers):
        return [self.factor * tokens for tokens in clip.encode_patches(pictures, layers)]


@torch.no_grad()
def test_another_reading_is_another_recipe(clip):
    encoder = Encoder(clip, [4], read=_Twice())
    assert encoder.recipe == {**Encoder(clip, [4]).recipe, "factor": 2.0}
    assert torch.equal(encoder(images()).tokens[0], 2 * Encoder(clip, [4])(images()).tokens[0])


@torch.no_grad()
@pytest.mark.parametrize("tuning", ["prompt", "lora"])
def test_a_copy_reads_with_the_weights_of_the_copy(small_clip, tuning):
    model = AFClip(pretrained=small_clip, image_size=56, tuning=tuning).model.eval()
    before, copy = model(images()), deepcopy(model)
    for parameter in copy.tuning.parameters():
        parameter += 1
    assert not torch.equal(copy(images()).anomaly_map, before.anomaly_map)
    assert torch.equal(model(images()).anomaly_map, before.anomaly_map)
