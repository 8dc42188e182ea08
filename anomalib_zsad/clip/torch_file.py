"""Files of `torch.save` and of TorchScript, read as data: nothing that a file holds is called or compiled."""

import io
import math
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from anomalib_zsad.clip.restricted import LONGEST_PICKLE, Module, RefusedError, Storage, Unpickler, View, expect
from anomalib_zsad.seam.tensors import parts_in

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch's format before it was a zip
_LONGEST_DIRECTORY = 4 << 20  # bytes of an archive's list of entries, which takes many times that in memory
_MOST_VALUES = 100_000
_LONGEST_NAME = 1000
_MOST_SHARED = 4  # tensors may share storages, and together have so many times the bytes of the file


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save`, in its format of today or before, or `torch.jit.save` wrote.

    Returns:
        Dictionaries, lists and plain values with tensors on the CPU. A module is its state dict, and one of TorchScript
        has its tensors that are no parameters in there too.

    Raises:
        OSError: If the file cannot be opened.
        RefusedError: If reading it would call or look up anything that no tensor or module needs.
        ValueError: If it is truncated, of another kind, or its sizes are contradictory; the message is the reason
            alone.
    """
    with path.open("rb") as file:
        try:
            return (_read_zip if file.peek(2)[:2] == b"PK" else _read_old)(file, path.stat().st_size)
        except RefusedError:
            raise
        except Exception as error:  # a damaged file can fail in any way
            raise ValueError((str(error).strip().splitlines() or [type(error).__name__])[0]) from error


def plain_copy(tensor: Tensor) -> Tensor:
    """Copy a tensor of a file as one of float32 that shares its memory with no other."""
    return tensor.detach().float().clone(memory_format=torch.contiguous_format)


def _read_zip(file: BinaryIO, size: int) -> Any:
    bounded = _Bounded(file, _LONGEST_DIRECTORY)
    with zipfile.ZipFile(bounded) as archive:
        bounded.longest = size
        entries = {each.filename.partition("/")[2]: each for each in archive.infolist()}

        def content(name: str) -> bytes:
            expect(name in entries, f"the archive has no {name}")
            expect(entries[name].compress_type == zipfile.ZIP_STORED, f"{name} is compressed")
            return archive.read(entries[name])

        _check_byte_order(content("byteorder").decode() if "byteorder" in entries else "little")
        described = Unpickler(io.BytesIO(content("data.pkl"))).load()
        return _Builder(lambda storage: content(f"data/{storage.key}"), size).plain(described)


def _read_old(file: BinaryIO, size: int) -> Any:
    head = io.BytesIO(file.read(LONGEST_PICKLE))
    expect(head.getvalue()[:1] == b"\x80", "neither a zip nor a pickle of torch")
    magic, protocol, system = (Unpickler(head).load() for _ in range(3))
    expect((magic, protocol) == (_MAGIC, _PROTOCOL), "not a pickle of torch")
    _check_byte_order("little" if system["little_endian"] else "big")
    unpickler = Unpickler(head)
    described, keys = unpickler.load(), Unpickler(head).load()
    file.seek(head.tell())
    contents = {key: _next_storage(file, unpickler.storages[key], size) for key in keys}
    return _Builder(lambda storage: contents.pop(storage.key), size).plain(described)


def _next_storage(file: BinaryIO, storage: Storage, size: int) -> bytes:
    count = int.from_bytes(file.read(8), "little")
    expect(count * storage.dtype.itemsize <= size, "a tensor is longer than the file")
    return file.read(count * storage.dtype.itemsize)


def _check_byte_order(order: str) -> None:
    expect(order == sys.byteorder, f"its numbers are {order}-endian, those of this machine {sys.byteorder}-endian")


class _Bounded:
    """The interface that `ZipFile` needs, with a bound on the bytes read at a time."""

    def __init__(self, file: BinaryIO, longest: int) -> None:
        self.longest = longest
        self.seek, self.tell, self.seekable, self._read = file.seek, file.tell, file.seekable, file.read

    def read(self, size: int = -1) -> bytes:
        expect(size <= self.longest, "the archive's list of entries or one of its entries is too long")
        return self._read(size if size >= 0 else self.longest)


class _Builder:
    """Build the tensors that a pickle describes.

    Args:
        content: Reads the bytes of a storage, once each.
        size: Of the file in bytes.
    """

    def __init__(self, content: Callable[[Storage], bytes], size: int) -> None:
        self._content = content
        self._storages: dict[str, Tensor] = {}
        self._unread, self._undescribed, self._values = size, _MOST_SHARED * size, _MOST_VALUES

    def plain(self, value: Any) -> Any:
        self._count()
        if isinstance(value, View):
            return self._tensor(value)
        if isinstance(value, Module):
            return dict(self._state(value, ""))
        if isinstance(value, dict):  # of a subclass, a pickle may have covered the methods
            return {key: self.plain(each) for key, each in dict.items(value)}
        return [self.plain(each) for each in value] if isinstance(value, list | tuple) else value

    def _count(self) -> None:
        self._values -= 1  # lists that hold the same list twice, and so on, would have no end
        expect(self._values >= 0, "it has too many values")

    def _state(self, module: Module, prefix: str) -> list[tuple[str, Tensor]]:
        found = []
        for name, part in parts_in(vars(module)).items():
            self._count()
            expect(len(prefix) + len(name) <= _LONGEST_NAME, "a tensor has too long a name")
            if isinstance(part, View):
                found.append((prefix + name, self._tensor(part)))
            elif isinstance(part, Module):
                found += self._state(part, f"{prefix}{name}.")
        return found

    def _tensor(self, view: View) -> Tensor:
        storage, offset, shape, stride = view
        expect(len(shape) == len(stride) and min((offset, *shape, *stride)) >= 0, "a tensor has no valid shape")
        count = math.prod(shape)
        last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
        expect(not count or last < storage.length, "a tensor is longer than its storage")
        self._undescribed -= count * storage.dtype.itemsize
        expect(self._undescribed >= 0, "its tensors are longer than the file")
        return self._flat(storage).as_strided(shape, stride, offset)

    def _flat(self, storage: Storage) -> Tensor:
        if storage.key not in self._storages:
            length = storage.length * storage.dtype.itemsize
            self._unread -= length
            expect(self._unread >= 0, "its tensors are longer than the file")
            content = bytearray(self._content(storage))
            expect(len(content) == length, f"the storage {storage.key} has {len(content)} bytes, expected {length}")
            empty = torch.empty(0, dtype=storage.dtype)
            self._storages[storage.key] = torch.frombuffer(content, dtype=storage.dtype) if length else empty
        return self._storages[storage.key]
