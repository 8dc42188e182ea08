"""What is read of CLIP, against the blocks of the small CLIP, one head and one token at a time."""

import pytest
import torch

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models import AnomalyClip
from anomalib_zsad.models.anomaly_clip.dpam import JointTokens
from tests.support.contract import images
from tests.support.small_clip import IMAGE_SIZE


@pytest.fixture(scope="module")
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=IMAGE_SIZE)


def value_attention(attention, x):
    """V-V attention of normed tokens (B, T, C), head by head."""
    width, heads = x.shape[-1], attention.num_heads
    values = x @ attention.in_proj_weight[2 * width :].T + attention.in_proj_bias[2 * width :]
    parts = [v @ v.transpose(1, 2) / (width / heads) ** 0.5 for v in values.chunk(heads, dim=-1)]
    joined = [part.softmax(-1) @ v for part, v in zip(parts, values.chunk(heads, dim=-1), strict=True)]
    return torch.cat(joined, dim=-1) @ attention.out_proj.weight.T + attention.out_proj.bias


def feed_forward(block, x):
    wide = block.mlp.c_fc(block.ln_2(x))
    return x + block.mlp.c_proj(wide * torch.sigmoid(1.702 * wide))


@torch.no_grad()
def test_released_gathers_a_stream_of_its_own(clip):
    blocks = clip.clip.visual.transformer.resblocks
    streams = clip.encode_patches(images(), [1, 2, 3, 4])
    local = streams[0]
    for stream, block in zip(streams[:3], blocks[1:], strict=False):
        local = local + value_attention(block.attn, block.ln_1(stream))
    (tokens,) = JointTokens(2, "released")(clip, images(), [4])
    torch.testing.assert_close(tokens[:, 1:], clip.project(local)[:, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens[:, 0], streams[3][:, 0] @ clip.projection, atol=1e-4, rtol=0)


@torch.no_grad()
def test_paper_replaces_the_attention_of_clip(clip):
    blocks = clip.clip.visual.transformer.resblocks
    (stream,) = clip.encode_patches(images(), [2])
    expected = []
    for block in blocks[2:]:
        stream = feed_forward(block, stream + value_attention(block.attn, block.ln_1(stream)))
        expected.append(stream)
    third, last = JointTokens(3, "paper")(clip, images(), [3, 4])
    torch.testing.assert_close(last, clip.project(expected[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(third[:, 1:], clip.project(expected[0])[:, 1:], atol=1e-4, rtol=0)
    assert torch.equal(third[:, 0], last[:, 0])


def test_the_first_block_with_value_attention_is_one_of_the_backbone(small_clip):
    given = {"pretrained": small_clip, "image_size": IMAGE_SIZE}
    assert AnomalyClip(**given).model.encoder.recipe == {
        "layers": [4],
        "precision": "fp32",
        "vv_start": 1,
        "variant": "released",
    }
    with pytest.raises(ValueError, match="vv_start_layer must name a block from 1 to 4 of this backbone, got 5"):
        AnomalyClip(**given, choices={"vv_start_layer": 5})
