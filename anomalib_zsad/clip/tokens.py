"""Texts as the numbers of a backbone's vocabulary."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from anomalib_zsad.clip.named import config_of
from anomalib_zsad.clip.weights import home

HUB_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""The files of a tokenizer of the hub."""
TOKENIZER = "tokenizer"
"""The folder for them, in that of a backbone's weights."""


@torch.compiler.allow_in_graph
def tokens_of(
    texts: tuple[str, ...],
    context_length: int,
    *,
    trim: bool = False,
) -> Tensor:  # (P, context_length); trimmed (P, T)
    """Tokenize texts as CLIP and open_clip do: start, words, end, zeros; texts that are too long are cut.

    No value of a tensor is read, so that it is alike within a graph that is traced and where tensors hold no data.

    Args:
        texts: The texts.
        context_length: Positions of the text tower.
        trim: End where the longest text does.
    """
    numbers = [_numbers(text, context_length) for text in texts]
    length = max(map(len, numbers)) if trim else context_length
    return torch.tensor([[*each, *[0] * (length - len(each))] for each in numbers])


def hub_tokenizer(backbone: str) -> str | None:
    """Return the name of a backbone whose tokenizer is one of the hub, as that of SigLIP; None for others."""
    return None if hub_repository(backbone) is None else backbone


def hub_repository(backbone: str) -> str | None:
    """Return the repository of the hub with the tokenizer of a backbone; None where that is CLIP's."""
    return config_of(backbone)["text_cfg"].get("hf_tokenizer_name")


@torch.compiler.assume_constant_result
def hub_tokens_of(
    texts: tuple[str, ...],
    backbone: str,
    context_length: int,
) -> Tensor:  # (P, context_length)
    """Tokenize texts as open_clip does with the tokenizer of a backbone that is one of the hub.

    It is looked for in `<home>/<backbone>/tokenizer`, then where `transformers` finds it.

    Raises:
        FileNotFoundError: If it cannot be loaded; the message says what to install or to fetch.
    """
    return _of_hub(backbone, context_length)(list(texts))


def _numbers(text: str, context_length: int) -> list[int]:
    tokenizer = _tokenizer()
    start, end = (tokenizer.encoder[name] for name in ("<start_of_text>", "<end_of_text>"))
    return [start, *tokenizer.encode(text)[: context_length - 2], end]


@lru_cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()  # it reads its 49,000 merges anew each time


@lru_cache
def _of_hub(backbone: str, context_length: int) -> Any:
    text = config_of(backbone)["text_cfg"]
    folder = home() / backbone / TOKENIZER
    try:
        if folder.is_dir():
            from open_clip.tokenizer import HFTokenizer

            tokenizer = HFTokenizer(str(folder), context_length=context_length, **text.get("tokenizer_kwargs", {}))
        else:
            from open_clip import get_tokenizer

            tokenizer = get_tokenizer(backbone, context_length=context_length)
        tokenizer([""])  # open_clip before 3 calls what transformers 5 no longer has
    except Exception as error:  # transformers raises OSError, ValueError, ImportError and others
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        msg = (
            f"the tokenizer of {backbone}, {text['hf_tokenizer_name']} on the hub, cannot be loaded ({reason}): it "
            f"needs the package transformers (pip install transformers) and, without a network, "
            f"{', '.join(HUB_FILES)} of that repository in {folder}"
        )
        raise FileNotFoundError(msg) from error
    return tokenizer
