"""The checkpoints that the authors of AnomalyCLIP released: plain tensors under their own names."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anomalib_zsad.clip.restricted import RefusedError
from anomalib_zsad.clip.torch_file import plain_copy, read_torch_file

_VECTORS = ("ctx_pos", "ctx_neg")
_STARTS = ("token_prefix_pos", "token_prefix_neg")
_WORDS = ("token_suffix_pos", "token_suffix_neg")
_DEEP = "compound_prompts_text."
_UNUSED = r"compound_prompt_projections\.\d+\.(weight|bias)|tokenized_prompts_(pos|neg)"
"""Projections that no training ever ran, and token numbers, whose embeddings are there too."""


class Released(NamedTuple):
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    """By the names of the parameters of `AnomalyClipModel`, in float32."""
    words: Tensor  # (S, T, Ct)
    """Embeddings of the start token and the words behind the vectors, by the backbone of the training."""


def read_released(checkpoint: Path) -> Released:
    """Read a released checkpoint.

    Args:
        checkpoint: `{"prompt_learner": state dict}`, as `torch.save` writes it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or foreign, asks for more than tensors, or its shapes do not fit together.
    """
    state = {name: value for name, value in _state(checkpoint).items() if not re.fullmatch(_UNUSED, name)}
    found = {name: tuple(value.shape) for name, value in state.items()}
    expected = _shapes(found)
    if wrong := [name for name in {**expected, **found} if found.get(name) != expected.get(name)]:
        wanted, got = (each.get(wrong[0], "none") for each in (expected, found))
        msg = f"{checkpoint}: expected a checkpoint of AnomalyCLIP with {wrong[0]} of shape {wanted}, got {got}"
        raise ValueError(msg)
    deep = [state[name] for name in expected if name.startswith(_DEEP)]
    tensors = {"prompts.vectors": torch.cat([state[name][0] for name in _VECTORS])}
    tensors.update({"prompts.deep.tokens": torch.stack(deep)} if deep else {})
    starts, rest = (torch.cat([state[name][0] for name in names]) for names in (_STARTS, _WORDS))
    words = torch.cat([starts, rest], dim=1)
    return Released({name: plain_copy(tensor) for name, tensor in tensors.items()}, plain_copy(words))


def settings_in(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `AnomalyClip` that tensors were trained with."""
    deep = tensors.get("prompts.deep.tokens")
    further = {} if deep is None else {"deep_prompt_length": deep.shape[1]}
    return {
        "prompt_length": tensors["prompts.vectors"].shape[1],
        "prompt_depth": 1 + (0 if deep is None else len(deep)),
        **further,
    }


def check_words(
    theirs: Tensor,  # (S, T, Ct) of a checkpoint, up to the end of the context
    ours: Tensor,  # (S, T, Ct) of a backbone and the words of its prompts, up to their end
    origin: str,
) -> None:
    """Check that a checkpoint was trained over the backbone and the words of a model.

    Raises:
        ValueError: If it was not.
    """
    theirs = theirs[:, : ours.shape[1]].to(ours)
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=1e-3, atol=1e-6):
        msg = (
            f"{origin}: expected a checkpoint over this backbone and these words, but the word embeddings in it are "
            f"others: the authors trained over ViT-L-14-336 of OpenAI, with the default states"
        )
        raise ValueError(msg)


def _shapes(found: dict[str, tuple[int, ...]]) -> dict[str, tuple[int | str, ...]]:
    """Return the shapes that tensors must have to fit those that are there."""

    def side(name: str, axis: int) -> int | str:
        return next(iter(found.get(name, ())[axis : axis + 1]), "n")

    width, deep = side("ctx_pos", 3), sum(name.startswith(_DEEP) for name in found)
    return {
        **dict.fromkeys(_VECTORS, (1, 1, side("ctx_pos", 2), width)),
        **dict.fromkeys(_STARTS, (1, 1, 1, width)),
        **dict.fromkeys(_WORDS, (1, 1, side("token_suffix_pos", 2), width)),
        **{f"{_DEEP}{i}": (side(f"{_DEEP}0", 0), width) for i in range(deep)},
    }


def _state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        msg = f"{path}: expected a checkpoint released by the authors of AnomalyCLIP, found none"
        raise FileNotFoundError(msg)
    try:
        content = read_torch_file(path)
    except ValueError as error:
        asks = isinstance(error, RefusedError)
        reason = f"reading it asks for {error}" if asks else f"it is truncated or of another kind ({error})"
        msg = f"{path}: expected a checkpoint of AnomalyCLIP, plain tensors, but {reason}"
        raise ValueError(msg) from error
    state = content.get("prompt_learner") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"{path}: expected a checkpoint of AnomalyCLIP with the tensors of prompt_learner, found none"
        raise ValueError(msg)
    return state
