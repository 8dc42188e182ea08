"""The files that the authors of AF-CLIP released: read without running what a pickle may hold."""

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

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

# Globals that a tensor and the dictionaries of a module ask for. Python 2 names are what torch's protocol writes.
_HARMLESS: dict[tuple[str, str], Callable] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}

# Classes of modules, the authors' own and torch's: they become records.
_RECORDS = ("clip.", "torch.nn.modules.")


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


class _Record:
    """Stands in for a module of a pickle: it holds the state and has no behaviour."""


def _prompt(path: Path) -> Tensor:  # (1, M, Ct)
    content = _read(path)
    tensors = list(_state_dict(path, content).values()) if not isinstance(content, Tensor) else [content]
    if len(tensors) != 1 or tensors[0].ndim != 3 or len(tensors[0]) != 1:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        msg = f"{path}: expected the prompt of AF-CLIP, one tensor of shape (1, M, Ct), got {shapes}"
        raise ValueError(msg)
    return _plain(tensors[0])


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
    return {key: _plain(state[key]) for key in expected}


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    try:
        state = dict(_walk(content)) if isinstance(content, _Record) else dict(content)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        state = {}
    if not state or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        msg = f"{path}: expected a module or a state dict of AF-CLIP, got {type(content).__name__}"
        raise ValueError(msg)
    return state


def _walk(record: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """Name the parameters of a module as its state dict would."""
    state = vars(record)
    own = [(prefix + name, value) for name, value in state["_parameters"].items() if value is not None]
    children = [(name, child) for name, child in state["_modules"].items() if child is not None]
    return own + [pair for name, child in children for pair in _walk(child, f"{prefix}{name}.")]


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().clone(memory_format=torch.contiguous_format)


def _read(path: Path) -> Any:
    if not path.is_file():
        msg = f"{path}: expected a file released by the authors of AF-CLIP, found none"
        raise FileNotFoundError(msg)
    refused: list[str] = []
    try:
        with path.open("rb") as file:
            start = file.read(2)
        # A zip or a pickle: torch.load would unpack anything else as an ancient tar archive.
        if start != b"PK" and start[:1] != b"\x80":
            msg = "neither a zip nor a pickle of torch"
            raise ValueError(msg)
        with warnings.catch_warnings():
            # torch's old format keeps the source of classes and misses it in the records.
            warnings.filterwarnings("ignore", "Couldn't retrieve source code")
            return torch.load(path, map_location="cpu", pickle_module=_restricted_pickle(refused), weights_only=False)
    except Exception as error:  # a damaged pickle can fail in any way
        if refused:
            msg = f"{path}: refused, because reading it asks for {refused[0]}, which no tensor or module needs"
        else:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            msg = f"{path}: expected a file released by the authors of AF-CLIP, but it cannot be read ({reason})"
        raise ValueError(msg) from error


def _restricted_pickle(refused: list[str]) -> ModuleType:
    """Make what torch.load takes for the pickle module; what it refuses is noted in `refused`."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in _HARMLESS:
                return _fresh(_HARMLESS[module, name])
            if module.startswith(_RECORDS) or module == "clip":
                return type("Record", (_Record,), {})
            refused.append(f"{module}.{name}")
            msg = f"{module}.{name}"
            raise pickle.UnpicklingError(msg)

    module = ModuleType("restricted_pickle")
    vars(module).update(Unpickler=Unpickler, load=lambda file, **options: Unpickler(file, **options).load())
    return module


def _fresh(function: Callable) -> Callable:
    """Wrap what is shared with the rest of the process: a pickle can set attributes on what it is handed."""
    return function if isinstance(function, type) else lambda *arguments: function(*arguments)
