"""The vision transformer that open_clip itself implements, as in OpenAI's CLIP."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import Attend, Edit, TowerActivation, run_block, run_blocks, run_with_value_stream
from anomalib_zsad.clip.positions import PositionResize, resize_grid


class LinearHead(NamedTuple):
    """How a token comes to the joint space where that takes a layer norm and one linear map."""

    norm: nn.LayerNorm
    weight: Tensor  # (C, D)
    bias: Tensor | None  # (D,)


class PlainVision:
    """Reads an `open_clip.transformer.VisionTransformer`: a class token, learnt positions, `ln_post` and `proj`.

    Args:
        visual: The tower.
        activation: Of its blocks.
    """

    prefix = 1
    """Tokens in front of those of the patches."""
    pools_class_token = True
    """Whether the feature of an image is that of its class token."""

    def __init__(self, visual: Any, activation: TowerActivation) -> None:
        self.visual = visual
        self.activation = activation

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return self.visual.patch_size

    @property
    def width(self) -> int:
        """C, the width of the stream."""
        return int(self.visual.conv1.out_channels)

    @property
    def blocks(self) -> Any:
        """The residual blocks."""
        return self.visual.transformer.resblocks

    @property
    def marker(self) -> Tensor:
        """A weight whose device is that of the tower."""
        return self.visual.proj

    @property
    def linear_head(self) -> LinearHead:
        """The map to the joint space."""
        return LinearHead(self.visual.ln_post, self.visual.proj, None)

    def positions(self, grid: tuple[int, int], how: PositionResize) -> Tensor:  # (1 + N, C)
        """Resize the position embedding."""
        return resize_grid(self.visual.positional_embedding.detach(), self.visual.grid_size, grid, 1, how)

    def rotations(self, grid: tuple[int, int]) -> None:
        """Return none: positions are added to the tokens alone."""

    def embed(
        self,
        images: Tensor,  # (B, 3, H, W)
        positions: Tensor,  # (1 + N, C)
    ) -> Tensor:  # (B, 1 + N, C)
        """Make the tokens that enter the first block."""
        patches = self.visual.conv1(images).flatten(2).transpose(1, 2)
        batch = images.shape[0]  # len() would fix the batch size of an exported graph
        first = self.visual.class_embedding.expand(batch, 1, -1).to(patches.dtype)
        return self.visual.ln_pre(torch.cat([first, patches], dim=1) + positions)

    def run(
        self,
        stream: Tensor,  # (B, T, C)
        layers: Sequence[int],
        rotations: Tensor | None = None,  # noqa: ARG002
        edit: Edit | None = None,
        attend: Attend | None = None,
        checkpointing: bool = False,
    ) -> list[Tensor]:  # L x (B, T, C)
        """Read the stream after the given blocks, as `run_blocks` does."""
        run = partial(_run, activation=self.activation, attend=attend)
        return run_blocks(self.blocks, stream, layers, run, edit, checkpointing)

    def run_with_values(
        self,
        stream: Tensor,  # (B, T, C)
        layers: Sequence[int],
        start: int,
        rotations: Tensor | None = None,  # noqa: ARG002
        feed_forward: bool = False,
    ) -> tuple[list[Tensor], Tensor]:  # L x (B, T, C), and (B, T, C)
        """Read the second stream of `run_with_value_stream`, and the first one after the last block."""
        return run_with_value_stream(self.blocks, stream, layers, self.activation, start, feed_forward)

    def project(
        self,
        tokens: Tensor,  # (..., C)
    ) -> Tensor:  # (..., D)
        """Bring tokens to the joint space, each by itself."""
        return self.visual.ln_post(tokens) @ self.visual.proj

    def pool(
        self,
        stream: Tensor,  # (B, 1 + N, C)
    ) -> Tensor:  # (B, D)
        """Compute the feature of each image."""
        return self.project(stream[:, :1])[:, 0]


def _run(index: int, block: Any, stream: Tensor, activation: TowerActivation, attend: Attend | None) -> Tensor:
    return run_block(block, stream, activation, attention=attend(index, block.attn) if attend is not None else None)
