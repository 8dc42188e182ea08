"""The text tower of open_clip, inside a CLIP or beside its vision tower."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import Edit, TowerActivation, run_block, run_blocks


class TextTower:
    """Reads the text tower of an `open_clip.CLIP` or an `open_clip.CustomTextCLIP`.

    Most are causal and read at the end-of-text token. Those of SigLIP attend in both directions and read the last of
    all positions, padding included; their tokenizers put no token in front of a text.

    Args:
        clip: The model.
        activation: Of its blocks.
    """

    def __init__(self, clip: Any, activation: TowerActivation) -> None:
        self.tower = clip.text if hasattr(clip, "text") else clip
        self.activation = activation

    @property
    def reads_last(self) -> bool:
        """Whether the last position is read and attention is not causal."""
        return getattr(self.tower, "pool_type", "argmax") == "last"

    @property
    def start_tokens(self) -> int:
        """Tokens in front of the words."""
        return 0 if self.reads_last else 1

    @property
    def width(self) -> int:
        """Ct, the width of the stream."""
        return int(self.tower.token_embedding.embedding_dim)

    @property
    def joint_width(self) -> int:
        """D, the width of the space that images and texts share."""
        projection = self.tower.text_projection
        return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return len(self.tower.transformer.resblocks)

    @property
    def context_length(self) -> int:
        """The number of positions."""
        return int(self.tower.positional_embedding.shape[0])

    def ends(
        self,
        tokens: Tensor,  # (P, T)
    ) -> Tensor:  # (P,)
        """Return the positions that are read."""
        if self.reads_last:
            return torch.full_like(tokens[:, 0], tokens.shape[1] - 1)
        return tokens.argmax(dim=-1)  # the end-of-text token has the highest number

    def room_beside(
        self,
        tokens: Tensor,  # (P, T), as far as they are read
    ) -> int:
        """Count the vectors that fit into the context beside texts."""
        if not self.reads_last:
            return self.context_length - tokens.shape[1]
        padding = (tokens == tokens[:, -1:]).flip(-1).long().cumprod(-1).sum(-1)
        return int(padding.min()) - 1  # one remains, which may be the end of the text as well

    def run(
        self,
        words: Tensor,  # (P, T, Ct)
        layers: Sequence[int],
        edit: Edit | None = None,
    ) -> list[Tensor]:  # x (P, T, Ct)
        """Read the stream after the given blocks."""
        stream = words + self.tower.positional_embedding[: words.shape[1]]
        run = partial(_run, activation=self.activation, causal=not self.reads_last)
        return run_blocks(self.tower.transformer.resblocks, stream, layers, run, edit)

    def project(
        self,
        tokens: Tensor,  # (P, Ct)
    ) -> Tensor:  # (P, D)
        """Bring tokens to the joint space."""
        tokens, projection = self.tower.ln_final(tokens), self.tower.text_projection
        return projection(tokens) if isinstance(projection, nn.Linear) else tokens @ projection


def _run(index: int, block: Any, stream: Tensor, activation: TowerActivation, causal: bool) -> Tensor:  # noqa: ARG001
    return run_block(block, stream, activation, causal)
