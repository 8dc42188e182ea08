"""Other ways of fine-tuning the vision tower that AF-CLIP is compared with (arXiv 2507.19949, table 5).

Each computes the taps itself and replaces the adaptor; windows, prompts and losses stay. The paper gives lengths,
depth, rank and numbers of parameters. The blocks with prefixes and the initialisation are our choices.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.attention import Attention
from anomalib_zsad.clip.backbone import FrozenClip

Tuning = Literal["prompt", "prefix", "lora", "adaptor"]

LENGTH, DEPTH, RANK = 12, 4, 64
"""Tokens of a prompt or prefix, blocks with prefixes, and the rank of LoRA."""


class VisionPrompts(nn.Module):
    """Learnt tokens beside the patches: prompt tuning, and with a depth prefix tuning.

    A prompt passes all blocks. Each of `depth` blocks after the first replaces it in its input by tokens of its own.

    Args:
        width: C, width of the vision stream.
        length: Number of tokens.
        depth: Number of blocks after the first one with tokens of their own.
    """

    def __init__(self, width: int, length: int = LENGTH, depth: int = 0) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(1 + depth, length, width) * 0.02)

    def read(self, clip: FrozenClip, images: Tensor, layers: Sequence[int]) -> list[Tensor]:  # L x (B, 1 + N, C)
        """Read the taps, without the learnt tokens."""
        return clip.encode_patches(images, layers, self._replace, beside=self.tokens[0])

    def _replace(
        self,
        block: int,
        stream: Tensor,  # (B, 1 + N + M, C)
    ) -> Tensor:
        if block >= self.tokens.shape[0]:
            return stream
        tokens = self.tokens[block].expand(stream.shape[0], -1, -1)
        return torch.cat([stream[:, : -tokens.shape[1]], tokens], dim=1)


class LowRankAttention(nn.Module):
    """LoRA of the queries, keys, values and output of the attention of some blocks.

    It is initialised as by Hu et al. 2022, with one factor zero; the update is not scaled.

    Args:
        width: C, width of the vision stream.
        blocks: The changed blocks, counted from 1.
        rank: Rank of the update of each matrix.
    """

    def __init__(self, width: int, blocks: Sequence[int], rank: int = RANK) -> None:
        super().__init__()
        self.blocks = list(blocks)
        self.down = nn.Parameter(torch.empty(len(self.blocks), 4, rank, width).uniform_(-(width**-0.5), width**-0.5))
        self.up = nn.Parameter(torch.zeros(len(self.blocks), 4, width, rank))

    def read(self, clip: FrozenClip, images: Tensor, layers: Sequence[int]) -> list[Tensor]:  # L x (B, 1 + N, C)
        """Read the taps."""
        return clip.encode_patches(images, layers, attend=self._changed)

    def _changed(self, block: int, attention: nn.MultiheadAttention) -> nn.MultiheadAttention | Attention:
        if block not in self.blocks:
            return attention
        which = self.blocks.index(block)
        added = self.up[which] @ self.down[which]  # (4, C, C)
        return Attention.of(attention, added[:3].flatten(0, 1), added[3])


def tuning_of(
    name: Tuning,
    clip: FrozenClip,
    layers: Sequence[int],
) -> VisionPrompts | LowRankAttention | None:
    """Build the module that tunes the vision tower; None for the adaptor, which does not change the tower.

    Args:
        name: Row of table 5.
        clip: The frozen CLIP; fewer blocks allow fewer prefixes.
        layers: Vision blocks whose tokens are used; LoRA changes these.
    """
    if name == "lora":
        return LowRankAttention(clip.vision_width, sorted(set(layers)))
    if name == "adaptor":
        return None
    return VisionPrompts(clip.vision_width, depth=min(DEPTH, max(layers) - 1) if name == "prefix" else 0)
