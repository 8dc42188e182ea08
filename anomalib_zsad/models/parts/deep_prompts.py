"""Learnable tokens deeper in the text tower, as AnomalyCLIP introduces them (arXiv 2310.18961)."""

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip


class DeepPrompts(nn.Module):
    """Learnable tokens in the input of further text blocks, where they replace those after the start token.

    They are the same for all prompts.

    Args:
        clip: The frozen CLIP.
        blocks: How many blocks after the first one get tokens of their own.
        length: Tokens of each.
        prompt_length: Learnable vectors of a prompt, whose places they take.

    Raises:
        ValueError: If the tokens would replace words.
    """

    def __init__(self, clip: FrozenClip, blocks: int, length: int, prompt_length: int) -> None:
        super().__init__()
        if not 1 <= length <= prompt_length:
            msg = f"choices.deep_prompt_length must lie between 1 and prompt_length={prompt_length}, got {length}"
            raise ValueError(msg)
        self.start = clip.start_tokens
        self.tokens = nn.Parameter(torch.randn(blocks, length, clip.text_width) * 0.02)

    def edit(
        self,
        block: int,
        stream: Tensor,  # (P, T, Ct)
    ) -> Tensor:  # (P, T, Ct)
        """Replace tokens in what leaves a block, the input of the next one."""
        blocks, length, _ = self.tokens.shape
        if block > blocks:
            return stream
        tokens = self.tokens[block - 1].expand(stream.shape[0], -1, -1)
        return torch.cat([stream[:, : self.start], tokens, stream[:, self.start + length :]], dim=1)
