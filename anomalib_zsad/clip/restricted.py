"""Pickles of tensors and modules, read as data: nothing that they name is called or looked up."""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

LONGEST_PICKLE = 4 << 20  # bytes; the pickle of the largest CLIP has a fifth of a megabyte
_MOST_TUPLES = 30_000  # hashing a deeper nest of them would overflow the stack


class RefusedError(ValueError):
    """Reading a file needs more than tensors and modules; the message names what."""


def expect(holds: bool, reason: str) -> None:
    """Raise a ValueError with the reason where a condition does not hold."""
    if not holds:
        raise ValueError(reason)


class Storage(NamedTuple):
    """A storage that a pickle names: its values are elsewhere in the file."""

    key: str
    dtype: torch.dtype
    length: int


class View(NamedTuple):
    """A tensor that a pickle describes; sizes are as the pickle claims."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Module:
    """Stands in for a module of a pickle: it holds the state and has no behaviour."""


class Unpickler(pickle.Unpickler):
    """Reader of one pickle: tensors become descriptions of themselves, modules records.

    Args:
        stream: Where the pickle begins; left where it ends.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        start = stream.tell()
        _scan(stream)
        super().__init__(io.BytesIO(stream.getvalue()[start : stream.tell()]))
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Stand in for what a pickle names, or refuse it."""
        if (found := _CALLABLE.get((module, name))) is not None:
            # A pickle can set attributes on what it is handed, but on builtins.
            return found if isinstance(found, type) else lambda *arguments: found(*arguments)
        if (module, name) in _DTYPES:
            return _DTYPES[module, name]
        if module.startswith(tuple(f"{each}." for each in _MODULES)) or module in _MODULES:
            return type("Record", (Module,), {})
        raise RefusedError("".join(filter(str.isprintable, f"{module}.{name}"))[:100])

    def persistent_load(self, saved: Any) -> Any:
        """Return a description of a storage."""
        if saved[0] == "module":  # torch's old format: a class and its source
            expect(isinstance(saved[1], type), "a module without a class")
            return saved[1]
        kind, dtype, key, _, length, *view = saved
        expect(kind == "storage" and isinstance(dtype, torch.dtype) and not any(view), "no storage of a tensor")
        expect(isinstance(key, str) and isinstance(length, int) and length >= 0, "no storage of a tensor")
        storage = Storage(key, dtype, length)
        expect(self.storages.setdefault(key, storage) == storage, f"two storages with the key {key}")
        return storage


def _first(value: Any, *_: Any) -> Any:
    return value


def _view(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> View:
    return View(storage, offset, shape, stride)


_CALLABLE: dict[tuple[str, str], Callable] = {
    ("torch._utils", "_rebuild_tensor"): _view,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch.jit._pickle", "restore_type_tag"): _first,
    ("torch.jit._pickle", "build_boollist"): _first,
    ("torch.jit._pickle", "build_doublelist"): _first,
    ("torch.jit._pickle", "build_intlist"): _first,
    ("torch.jit._pickle", "build_tensorlist"): _first,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
"""What reading tensors and the dictionaries of modules needs. Python 2 names are what torch's protocol writes."""

_DTYPES = {
    ("torch", f"{name}Storage"): dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}

_MODULES = ("__torch__", "clip", "torch.nn.modules")
"""Where classes of modules are: those of TorchScript, the authors' own, and torch's."""


def _scan(stream: io.BytesIO) -> None:
    """Go to the end of a pickle, and refuse one that would take up memory or the stack: see gh-115952 of CPython."""
    expect(len(stream.getvalue()) <= LONGEST_PICKLE, "its pickle is too long")
    tuples = 0
    for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
        expect("PUT" not in code.name or (argument or 0) <= number, "its pickle is damaged")
        tuples += code.name.startswith("TUPLE")
    expect(tuples <= _MOST_TUPLES, "its pickle has too many tuples")
