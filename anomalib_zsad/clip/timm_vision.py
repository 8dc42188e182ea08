"""Vision transformers of timm that open_clip has as towers: PE-Core, EVA-02 and SigLIP."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from anomalib_zsad.clip.attention import ValueAttention
from anomalib_zsad.clip.blocks import Attend, Edit, run_blocks
from anomalib_zsad.clip.plain_vision import LinearHead
from anomalib_zsad.clip.positions import PositionResize, resize_grid


class TimmVision:
    """Reads an `open_clip.timm_model.TimmModel` over timm's `Eva` or `VisionTransformer`.

    The joint space is that of the tower's head: a linear map of the class token (EVA-02), or attention pooling over all
    tokens (PE-Core, SigLIP). A token by itself is brought there by the same head, as if the image had no other one.

    Args:
        visual: The tower. Its rotary embeddings, where it has any, must be those of any size (see `loading`).
    """

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        self.trunk = visual.trunk

    @property
    def prefix(self) -> int:
        """Tokens in front of those of the patches: 1 for a class token, or 0."""
        return int(self.trunk.num_prefix_tokens)

    @property
    def pools_class_token(self) -> bool:
        """Whether the feature of an image is that of its class token."""
        return self.trunk.attn_pool is None

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return self.trunk.patch_embed.patch_size

    @property
    def width(self) -> int:
        """C, the width of the stream."""
        return int(self.trunk.embed_dim)

    @property
    def blocks(self) -> Any:
        """The residual blocks."""
        return self.trunk.blocks

    @property
    def marker(self) -> Tensor:
        """A weight whose device is that of the tower."""
        return self.trunk.norm.weight

    @property
    def linear_head(self) -> LinearHead | None:
        """The map to the joint space; None where it is attention pooling."""
        head = self.trunk.head
        return LinearHead(self.trunk.norm, head.weight.T, head.bias) if self.pools_class_token else None

    def positions(self, grid: tuple[int, int], how: PositionResize) -> Tensor:  # (P + N, C)
        """Resize the position embedding."""
        embedding = self.trunk.pos_embed.detach()[0]
        return resize_grid(embedding, self.trunk.patch_embed.grid_size, grid, self.prefix, how)

    def rotations(self, grid: tuple[int, int]) -> Tensor | None:  # (N, 2 d), d the width of a head
        """Compute the rotary embedding of patches; None for towers without one."""
        rope = getattr(self.trunk, "rope", None)
        return None if rope is None else rope.get_embed(shape=list(grid))

    def embed(
        self,
        images: Tensor,  # (B, 3, H, W)
        positions: Tensor,  # (P + N, C)
    ) -> Tensor:  # (B, P + N, C)
        """Make the tokens that enter the first block."""
        patches = self.trunk.patch_embed.proj(images).flatten(2).transpose(1, 2)
        if self.prefix:
            first = self.trunk.cls_token.expand(images.shape[0], -1, -1).to(patches.dtype)
            patches = torch.cat([first, patches], dim=1)
        return self.trunk.norm_pre(patches + positions)

    def run(
        self,
        stream: Tensor,  # (B, P + N, C)
        layers: Sequence[int],
        rotations: Tensor | None = None,
        edit: Edit | None = None,
        attend: Attend | None = None,
        checkpointing: bool = False,
    ) -> list[Tensor]:  # L x (B, P + N, C)
        """Read the stream after the given blocks, as `run_blocks` does."""
        run = partial(_run, rotations=rotations, attend=attend)
        return run_blocks(self.blocks, stream, layers, run, edit, checkpointing)

    def run_with_values(
        self,
        stream: Tensor,  # (B, P + N, C)
        layers: Sequence[int],
        start: int,
        rotations: Tensor | None = None,
        feed_forward: bool = False,
    ) -> tuple[list[Tensor], Tensor]:  # L x (B, P + N, C), and (B, P + N, C)
        """Read a second stream, as `blocks.run_with_value_stream` does.

        Values carry no rotary embedding: V-V attention compares what patches hold, not where they are.
        """
        taps, local = {}, stream
        for index, block in enumerate(self.blocks, start=1):
            if index >= start:
                local = local + _scaled(block, 1, ValueAttention(block.attn)(block.norm1(stream)))
                local = _feed_forward(block, local) if feed_forward else local
            stream = _run(index, block, stream, rotations)
            local = stream if index < start else local
            if index in layers:
                taps[index] = local
        return [taps[layer] for layer in layers], stream

    def project(
        self,
        tokens: Tensor,  # (..., C)
    ) -> Tensor:  # (..., D)
        """Bring tokens to the joint space, each by itself."""
        return self.pool(tokens.flatten(0, -2)[:, None]).unflatten(0, tokens.shape[:-1])

    def pool(
        self,
        stream: Tensor,  # (B, P + N, C)
    ) -> Tensor:  # (B, D)
        """Compute the feature of each image."""
        return self.visual.head(self.trunk.forward_head(self.trunk.norm(stream)))


def check_trunk(trunk: Any, backbone: str) -> None:
    """Check that a tower is one that `TimmVision` reads.

    Raises:
        ValueError: If it is not.
    """
    from timm.models.eva import Eva, EvaBlock
    from timm.models.vision_transformer import Block, VisionTransformer

    kinds = {Eva: EvaBlock, VisionTransformer: Block}
    block = kinds.get(type(trunk))
    if block is None:
        fault = f"its vision tower is {type(trunk).__name__}"
    elif any(type(each) is not block for each in trunk.blocks):
        fault = f"its blocks are {type(trunk.blocks[0]).__name__}"
    elif trunk.num_prefix_tokens > 1 or trunk.pos_embed is None:
        fault = "it has register tokens or no learnt positions"
    else:
        return
    msg = f"backbone {backbone!r} is not supported: only transformers of pre-norm blocks are, and {fault}"
    raise ValueError(msg)


def _run(
    index: int,
    block: Any,
    stream: Tensor,  # (B, T, C)
    rotations: Tensor | None,
    attend: Attend | None = None,
) -> Tensor:
    attention = attend(index, block.attn) if attend is not None else block.attn
    if attention is not block.attn:
        return _feed_forward(block, stream + _scaled(block, 1, attention(block.norm1(stream))))
    return block(stream) if rotations is None else block(stream, rope=rotations)


def _feed_forward(block: Any, stream: Tensor) -> Tensor:
    return stream + _scaled(block, 2, block.mlp(block.norm2(stream)))


def _scaled(block: Any, half: int, x: Tensor) -> Tensor:
    """Apply the layer scale of a half of a block: of `Eva` a parameter or None, of `VisionTransformer` a module."""
    if hasattr(block, "gamma_1"):
        gamma = getattr(block, f"gamma_{half}")
        return x if gamma is None else gamma * x
    return getattr(block, f"ls{half}")(x)
