"""The residual blocks of CLIP's towers: run one by one, with taps, edits and other weights of attention."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from anomalib_zsad.clip.attention import Attention, self_attention, with_value_attention

Activation = Literal["quick_gelu", "gelu"]
TowerActivation = Literal["quick_gelu", "gelu", "own"]
"""The activation in the feed-forward parts of a tower; "own" is the one that open_clip has built into them."""
Edit = Callable[[int, Tensor], Tensor]
"""`edit(block, tokens) -> tokens`: what replaces the residual stream after a block, counted from 1."""
Attend = Callable[[int, Any], Any]
"""`attend(block, attention) -> attention`: what a block attends with, counted from 1."""
Run = Callable[[int, Any, Tensor], Tensor]
"""`run(index, block, stream) -> stream`: one block, counted from 1."""

QUICK_GELU = 1.702
"""QuickGELU(x) = x * sigmoid(1.702 x)."""


def run_blocks(
    blocks: Any,  # nn.ModuleList of blocks
    stream: Tensor,  # (B, T, C)
    layers: Sequence[int],
    run: Run,
    edit: Edit | None = None,
    checkpointing: bool = False,
) -> list[Tensor]:  # L x (B, T, C)
    """Read the residual stream right after the blocks `layers`, counted from 1; those behind the last are not run.

    With `checkpointing` the backward pass computes the blocks again instead of keeping their intermediate results.
    """
    taps = {}
    for index, block in enumerate(blocks[: max(layers)], start=1):
        if checkpointing and stream.requires_grad:
            stream = checkpoint(run, index, block, stream, use_reentrant=False, preserve_rng_state=False)
        else:
            stream = run(index, block, stream)
        stream = edit(index, stream) if edit is not None else stream
        if index in layers:
            taps[index] = stream
    return [taps[layer] for layer in layers]


def run_with_value_stream(
    blocks: Any,  # nn.ModuleList of open_clip's blocks
    stream: Tensor,  # (B, T, C)
    layers: Sequence[int],
    activation: TowerActivation,
    start: int,
    feed_forward: bool = False,
) -> tuple[list[Tensor], Tensor]:  # L x (B, T, C), and (B, T, C)
    """Read a second stream, which from block `start` on gathers the V-V attention of the first and nothing else.

    With `feed_forward` it goes through that part of the blocks as well.

    Returns:
        The second stream right after the blocks `layers`, and the first one after the last block.
    """
    taps, local = {}, stream
    for index, block in enumerate(blocks, start=1):
        if index < start:
            stream = local = run_block(block, stream, activation)
        else:
            attended, of_values = with_value_attention(block.attn, block.ln_1(stream))
            stream, local = stream + block.ls_1(attended), local + block.ls_1(of_values)
            stream = run_feed_forward(block, stream, activation)
            local = run_feed_forward(block, local, activation) if feed_forward else local
        if index in layers:
            taps[index] = local
    return [taps[layer] for layer in layers], stream


def run_block(
    block: Any,  # of open_clip
    stream: Tensor,  # (B, T, C)
    activation: TowerActivation,
    causal: bool = False,
    attention: nn.MultiheadAttention | Attention | None = None,
) -> Tensor:  # (B, T, C)
    """Run one block, with its own weights of attention where no others are given."""
    stream = stream + block.ls_1(self_attention(attention or block.attn, block.ln_1(stream), causal))
    return run_feed_forward(block, stream, activation)


def run_feed_forward(
    block: Any,  # of open_clip
    stream: Tensor,  # (B, T, C)
    activation: TowerActivation,
) -> Tensor:  # (B, T, C)
    """Run the second half of a block."""
    return stream + block.ls_2(_mlp(block.mlp, block.ln_2(stream), activation))


def _mlp(mlp: Any, x: Tensor, activation: TowerActivation) -> Tensor:
    if activation == "own":
        return mlp(x)
    if activation == "gelu":
        return mlp.c_proj(F.gelu(mlp.c_fc(x)))
    # x * sigmoid(a x) = silu(a x) / a: both factors go into the matrix products, one pass over the wide tensor
    # is left of three.
    wide = _scaled_linear(x, mlp.c_fc, alpha=QUICK_GELU, beta=QUICK_GELU)
    wide = F.silu(wide, inplace=not wide.requires_grad)
    return _scaled_linear(wide, mlp.c_proj, alpha=1 / QUICK_GELU, beta=1.0)


def _scaled_linear(
    x: Tensor,  # (B, T, C)
    linear: nn.Linear,
    alpha: float,
    beta: float,
) -> Tensor:
    out = torch.addmm(linear.bias, x.flatten(0, 1), linear.weight.T, alpha=alpha, beta=beta)
    return out.unflatten(0, x.shape[:2])
