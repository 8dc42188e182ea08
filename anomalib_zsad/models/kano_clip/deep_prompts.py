"""Learnable tokens deeper in the text tower, as in AnomalyCLIP (arXiv 2310.18961)."""

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.kano_clip.choices import KAnoChoices


class DeepPrompts(nn.Module):
    """Learnable tokens in the input of further text blocks, where they replace those after the start token.

    They are the same for both states, all adjectives and all classes.

    Args:
        clip: The frozen CLIP.
        choices: How many blocks get how many tokens of their own.
        prompt_length: Learnable vectors of a prompt, whose places they take.

    Raises:
        ValueError: If there are not as many blocks, or the tokens would replace words.
    """

    def __init__(self, clip: FrozenClip, choices: KAnoChoices, prompt_length: int) -> None:
        super().__init__()
        depth, length = choices.deep_prompt_depth, choices.deep_prompt_length
        most = clip.n_text_blocks - 1
        if not 1 <= depth <= most:
            msg = f"deep_prompt_depth must lie between 0 and {most}, the text blocks after the first one, got {depth}"
            raise ValueError(msg)
        if not 1 <= length <= prompt_length:
            msg = f"deep_prompt_length must lie between 1 and prompt_length={prompt_length}, got {length}"
            raise ValueError(msg)
        self.tokens = nn.Parameter(torch.randn(depth, length, clip.text_width) * 0.02)

    def edit(
        self,
        block: int,
        stream: Tensor,  # (P, T, Ct)
    ) -> Tensor:  # (P, T, Ct)
        """Replace tokens in what leaves a block, the input of the next one."""
        depth, length, _ = self.tokens.shape
        if block > depth:
            return stream
        tokens = self.tokens[block - 1].expand(stream.shape[0], -1, -1)
        return torch.cat([stream[:, :1], tokens, stream[:, 1 + length :]], dim=1)
