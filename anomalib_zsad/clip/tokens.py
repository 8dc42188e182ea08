"""Texts as the numbers of CLIP's vocabulary."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@torch.compiler.assume_constant_result
def tokens_of(
    texts: tuple[str, ...],
    context_length: int,
    *,
    trim: bool = False,
) -> Tensor:  # (P, context_length); trimmed (P, T)
    """Tokenize texts as open_clip does: start, words, end, zeros; texts that are too long are cut.

    No value of a tensor is read, so that it is alike within a graph that is traced and where tensors hold no data.

    Args:
        texts: The texts.
        context_length: Positions of the text tower.
        trim: End where the longest text does.
    """
    numbers = [_numbers(text, context_length) for text in texts]
    length = max(map(len, numbers)) if trim else context_length
    return torch.tensor([[*each, *[0] * (length - len(each))] for each in numbers])


def _numbers(text: str, context_length: int) -> list[int]:
    tokenizer = _tokenizer()
    start, end = (tokenizer.encoder[name] for name in ("<start_of_text>", "<end_of_text>"))
    return [start, *tokenizer.encode(text)[: context_length - 2], end]


@lru_cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()  # it reads its 49,000 merges anew each time
