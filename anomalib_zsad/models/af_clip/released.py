"""The files that the authors of AF-CLIP released: read without running what a pickle may hold."""

from pathlib import Path
from typing import Any

from torch import Tensor

from anomalib_zsad.clip.restricted import RefusedError
from anomalib_zsad.clip.torch_file import plain_copy, read_torch_file

_OWN_NAMES = {
    "attention.attn.to_q.weight": "adaptor.to_q.weight",
    "attention.attn.to_k.weight": "adaptor.to_k.weight",
    "attention.attn.to_v.weight": "adaptor.to_v.weight",
    "attention.attn.to_out.0.weight": "adaptor.to_out.weight",
    "attention.attn.to_out.0.bias": "adaptor.to_out.bias",
    "attention.norm.weight": "adaptor.norm.weight",
    "attention.norm.bias": "adaptor.norm.bias",
}
"""What `AFClipModel` calls the authors' tensors."""

_LINEAR = ("attention.attn.to_q.weight", "attention.attn.to_k.weight", "attention.attn.to_v.weight")


def read_released(prompt: Path, adaptor: Path) -> dict[str, Tensor]:
    """Read the authors' two files for one auxiliary set.

    Args:
        prompt: `{mvtec,visa}_prompt.pt`, a pickled parameter (1, M, Ct); or a state dict with that one tensor.
        adaptor: `{mvtec,visa}_adaptor.pt`, a pickled module; or its state dict.

    Returns:
        The tensors in float32, by the names of the parameters of `AFClipModel`.

    Raises:
        FileNotFoundError: If one of the files does not exist.
        ValueError: If a file is truncated or foreign, asks for anything but tensors and modules, or its shapes do not
            fit together.
    """
    vectors = _prompt(prompt)
    return {"prompts.vectors": vectors, **{_OWN_NAMES[key]: value for key, value in _adaptor(adaptor).items()}}


def _prompt(path: Path) -> Tensor:  # (1, M, Ct)
    content = _read(path)
    tensors = list(_state_dict(path, content).values()) if not isinstance(content, Tensor) else [content]
    if len(tensors) != 1 or tensors[0].ndim != 3 or len(tensors[0]) != 1:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        msg = f"{path}: expected the prompt of AF-CLIP, one tensor of shape (1, M, Ct), got {shapes}"
        raise ValueError(msg)
    return plain_copy(tensors[0])


def _adaptor(path: Path) -> dict[str, Tensor]:
    state = _state_dict(path, _read(path))
    found = {key: tuple(value.shape) for key, value in state.items()}
    first = found.get(_LINEAR[0], ())
    inner, width = first if len(first) == 2 else (0, 0)
    expected = {
        **dict.fromkeys(_LINEAR, (inner, width)),
        "attention.attn.to_out.0.weight": (width, inner),
        "attention.attn.to_out.0.bias": (width,),
        "attention.norm.weight": (width,),
        "attention.norm.bias": (width,),
    }
    if found != expected or not inner:
        differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        key = (differing or [_LINEAR[0]])[0]
        msg = (
            f"{path}: expected the adaptor of AF-CLIP, but {key} has shape {found.get(key, 'none, it is missing')} "
            f"where {expected.get(key, 'no such tensor')} belongs ({len(differing)} such tensors)"
        )
        raise ValueError(msg)
    return {key: plain_copy(state[key]) for key in expected}


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    state = content if isinstance(content, dict) else {}
    if not state or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        msg = f"{path}: expected a module or a state dict of AF-CLIP, got {type(content).__name__}"
        raise ValueError(msg)
    return state


def _read(path: Path) -> Any:
    if not path.is_file():
        msg = f"{path}: expected a file released by the authors of AF-CLIP, found none"
        raise FileNotFoundError(msg)
    try:
        return read_torch_file(path)
    except RefusedError as error:
        msg = f"{path}: refused, because reading it asks for {error}, which no tensor or module needs"
        raise ValueError(msg) from error
    except ValueError as error:
        msg = f"{path}: expected a file released by the authors of AF-CLIP, but it cannot be read ({error})"
        raise ValueError(msg) from error
