"""The factored adaptor against a slow implementation that follows the equations one by one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.af_clip.adapter import Adaptor, JointTokens, StatePrompts, WindowAggregation


@pytest.fixture(scope="module")
def clip(small_clip):
    return FrozenClip.load(pretrained=small_clip, image_size=56)


def aggregate_slowly(tokens, grid, window, sigma):
    rows, columns = grid
    patches = tokens[:, 1:].unflatten(1, grid)
    reach = window // 2
    offsets = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    weights = {offset: math.exp(-(offset[0] ** 2 + offset[1] ** 2) / (2 * sigma**2)) for offset in offsets}
    total = sum(weights.values())
    out = torch.zeros_like(patches)
    for row in range(rows):
        for column in range(columns):
            for (i, j), weight in weights.items():
                if 0 <= row + i < rows and 0 <= column + j < columns:
                    out[:, row, column] += weight / total * patches[:, row + i, column + j]
    return torch.cat([tokens[:, :1], out.flatten(1, 2)], dim=1)


def adapt_slowly(adaptor, tokens):
    x = adaptor.norm(tokens)
    q, k, v = (
        layer(x).unflatten(-1, (adaptor.heads, -1)).transpose(1, 2)
        for layer in (adaptor.to_q, adaptor.to_k, adaptor.to_v)
    )
    attention = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    return adaptor.to_out((attention @ v).transpose(1, 2).flatten(2))


@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    window=st.sampled_from([1, 3, 5, 7]),
    sigma=st.floats(0.5, 8),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_windows_are_weighted_sums_with_zeros_outside(rows, columns, window, sigma, seed):
    tokens = torch.randn(2, 1 + rows * columns, 3, generator=torch.Generator().manual_seed(seed))
    (ours,) = WindowAggregation([window], sigma)(tokens, (rows, columns))
    torch.testing.assert_close(ours, aggregate_slowly(tokens, (rows, columns), window, sigma), atol=1e-5, rtol=1e-5)


# The inner width below, above and between the widths of vision stream and joint space: both ways to take a norm.
@pytest.mark.parametrize(("heads", "head_width"), [(2, 8), (4, 32)])
def test_factored_tokens_are_those_of_the_equations(clip, heads, head_width):
    torch.manual_seed(0)
    adaptor = Adaptor(clip.vision_width, heads, head_width)
    for parameter in adaptor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens, grid, windows = torch.randn(2, 1 + 12, clip.vision_width), (3, 4), WindowAggregation((1, 3))
    text = F.normalize(torch.randn(2, clip.joint_width), dim=-1)
    factored = JointTokens.of(adaptor(tokens, grid, windows), adaptor.to_out, clip.linear_head)
    weights = torch.rand(2, 13)
    for scale, window in enumerate(windows.windows):
        dense = clip.project(adapt_slowly(adaptor, aggregate_slowly(tokens, grid, window, 4.0)))
        dense = F.normalize(dense, dim=-1)
        torch.testing.assert_close(factored.cosines(text)[scale], dense @ text.T, atol=2e-5, rtol=0)
        sums = (weights[..., None] * dense).sum(1)
        torch.testing.assert_close(factored.unit_sums(weights)[scale], sums, atol=2e-4, rtol=0)


def test_the_adaptor_at_vit_l_has_the_size_the_paper_states():
    adaptor = sum(parameter.numel() for parameter in Adaptor(1024).parameters())
    assert adaptor + 12 * 768 == 2_109_440


def test_vectors_stand_before_the_start_of_text(clip):
    prompts = StatePrompts(clip, ["without defect.", "with defect."], length=5)
    tokens = clip.tokenize(["without defect.", "with defect."])
    padded = torch.cat([prompts.vectors.expand(2, -1, -1), clip.embed_tokens(tokens)], dim=1)[:, : clip.context_length]
    whole = clip.encode_text(padded, tokens.argmax(-1) + 5)
    torch.testing.assert_close(prompts(clip), F.normalize(whole, dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [-1, 74])
def test_prompts_must_fit_the_context(clip, length):
    with pytest.raises(ValueError, match=rf"prompt_length must lie between 0 and 72 .* got {length}"):
        StatePrompts(clip, ["without defect.", "with defect."], length)
