"""What AnomalyCLIP learns: object-agnostic prompts (section 3.2) and tokens deeper in the text tower (eq. 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.parts.deep_prompts import DeepPrompts
from anomalib_zsad.models.parts.text_side import words_beside

_DEPTH = 9
"""The depth of the paper, where the text tower has as many blocks."""


class ObjectPrompts(nn.Module):
    """Prompts of a normal and an anomalous object, [V_1] ... [V_E] [object] and [W_1] ... [W_E] [damaged] [object].

    The vectors stand between the start-of-text token, where there is one, and the words. In the input of further text
    blocks tokens that both prompts share replace the first of them.

    Args:
        clip: The frozen CLIP.
        states: The words of each prompt, the normal one first.
        length: Learnable vectors of each (E).
        depth: Text blocks whose input has learnable tokens, counted from the first, which has the vectors themselves.
            None: 9, or all of them where there are fewer.
        deep_length: Learnable tokens in the input of the others.

    Raises:
        ValueError: If the text tower is less deep, vectors and words do not fit into its context, or the deep tokens
            would replace words.
    """

    end: Tensor  # (S,)
    words: Tensor  # (S, T, Ct), without the vectors

    def __init__(
        self,
        clip: FrozenClip,
        states: Sequence[str],
        length: int = 12,
        depth: int | None = None,
        deep_length: int = 4,
    ) -> None:
        super().__init__()
        most = clip.n_text_blocks
        blocks = min(_DEPTH, most) if depth is None else depth
        if blocks > most:
            msg = f"prompt_depth must lie between 1 and {most}, the text blocks of this backbone, got {depth}"
            raise ValueError(msg)
        words, end = words_beside(clip, states, length)
        self.start = clip.start_tokens
        self.vectors = nn.Parameter(torch.randn(len(states), length, clip.text_width) * 0.02)
        self.deep = DeepPrompts(clip, blocks - 1, deep_length, length) if blocks > 1 else None
        self.register_buffer("end", end, persistent=False)
        self.register_buffer("words", words, persistent=False)

    def forward(self, clip: FrozenClip) -> Tensor:  # (S, D), unit length
        """Encode the prompts."""
        words = torch.cat([self.words[:, : self.start], self.vectors, self.words[:, self.start :]], dim=1)
        edit = None if self.deep is None else self.deep.edit
        return F.normalize(clip.encode_text(words, self.end, edit), dim=-1)
