"""Adapter files: the trained tensors of a method and its record, as safetensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.models.parts.record import Record, from_metadata

T = TypeVar("T")

FORMAT = "anomalib_zsad"
"""The entry "format" in the metadata of adapter files."""


class Adapter(NamedTuple):
    """The content of an adapter file."""

    tensors: dict[str, Tensor]
    record: Record


def read_adapter(path: Path, method: str) -> Adapter:
    """Read an adapter file of a method.

    Args:
        path: A file that `save_adapter` wrote.
        method: The class of the model that it is for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated, another kind of file, or of another method.
    """
    tensors, metadata = load_adapter(path)
    return Adapter(tensors, from_metadata(metadata, method, str(path)))


def save_adapter(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write an adapter file.

    Args:
        path: The file, by custom `.safetensors`; replaced where it exists.
        tensors: The trained tensors, by name.
        metadata: "method" and further entries; "format" is added.

    Raises:
        OSError: If it cannot be written.
    """
    separate = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    try:
        with whole_file(path) as temporary:
            save_file(separate, temporary, metadata={**metadata, "format": FORMAT})
    except SafetensorError as error:  # raised for a full disk, too
        msg = f"{path}: the adapter file cannot be written ({error})"
        raise OSError(msg) from error


def load_adapter(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read an adapter file.

    Args:
        path: A file that `save_adapter` wrote.

    Returns:
        The tensors on the CPU, and the metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or another kind of file.
    """
    return _read(path, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # no mapping


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of an adapter file, whose length is checked.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or another kind of file.
    """
    return _read(path, lambda _: None)[1]


def _read(path: Path, read: Callable[[Any], T]) -> tuple[T, dict[str, str]]:
    if not path.is_file():
        msg = f"{path}: expected an adapter file of anomalib_zsad, found none"
        raise FileNotFoundError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            metadata, content = file.metadata() or {}, read(file)
    except SafetensorError as error:
        msg = f"{path}: expected an adapter file of anomalib_zsad, but it is truncated or no safetensors file ({error})"
        raise ValueError(msg) from error
    if metadata.get("format") != FORMAT or "method" not in metadata:
        msg = f"{path}: expected an adapter file of anomalib_zsad, got a safetensors file with the metadata {metadata}"
        raise ValueError(msg)
    return content, metadata
