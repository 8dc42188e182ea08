"""A small file for a CLIP: float16, and of the word embeddings only those that were trained."""

import torch
from torch import Tensor

VOCABULARY = 49408
"""Tokens in the vocabulary of CLIP."""

_WIDEST = 4096
"""Numbers of a word embedding: the rebuilt table has many times the bytes of the file."""

_TABLE = "token_embedding.weight"
_NUMBERS, _ROWS, _OTHER = (f"token_embedding.{name}" for name in ("numbers", "rows", "other"))


def pack(
    state: dict[str, Tensor],
    numbers: Tensor,  # (K,) the tokens whose embedding was trained
    other: Tensor,  # (Ct,) the embedding of all others
) -> dict[str, Tensor]:
    """Reduce weights to the content of a small file.

    Args:
        state: The weights in OpenAI's layout.
        numbers: Distinct token numbers in rising order.
        other: What stands for every other token.
    """
    packed = {name: tensor.half().contiguous() for name, tensor in state.items() if name != _TABLE}
    return {**packed, _NUMBERS: numbers.int(), _ROWS: state[_TABLE][numbers].half(), _OTHER: other.half()}


def unpack(
    tensors: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Rebuild the table of word embeddings where it was packed; other weights pass unchanged.

    Raises:
        ValueError: If the packed words do not belong together.
    """
    if _ROWS not in tensors:
        return tensors
    state = dict(tensors)
    try:
        numbers, rows, other = (state.pop(name) for name in (_NUMBERS, _ROWS, _OTHER))
    except KeyError as error:
        msg = f"expected the packed words {_NUMBERS}, {_ROWS} and {_OTHER}, {error.args[0]} is missing"
        raise ValueError(msg) from error
    if rows.ndim != 2 or numbers.shape != rows.shape[:1] or other.shape != rows.shape[1:]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (numbers, rows, other))
        msg = f"expected packed words of shapes (K,), (K, C) and (C,), got {shapes}"
        raise ValueError(msg)
    if len(other) > _WIDEST:
        msg = f"expected packed words of {_WIDEST} numbers at most, got {len(other)}"
        raise ValueError(msg)
    if not torch.equal(numbers, numbers.unique()) or (len(numbers) and not 0 <= numbers[0] <= numbers[-1] < VOCABULARY):
        msg = f"expected distinct token numbers below {VOCABULARY} in rising order for the packed words"
        raise ValueError(msg)
    table = other.repeat(VOCABULARY, 1)
    table[numbers.long()] = rows
    return {**state, _TABLE: table}
