"""Reading, writing and checking checkpoints, which hold trained tensors and the identity of their backbone."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from anomalib.engine.plugins import AnomalibCheckpointIO
from anomalib.utils.serialization import anomalib_safe_globals
from lightning.pytorch import LightningModule

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.models.parts.validity import check_tensors

_MOST_SHARED = 4
"""Tensors may share storages; together they may have this many times the bytes of the file."""
_SETTINGS = {"activation": "another activation", "position_resize": "another resizing of position embeddings"}


class CheckedCheckpointIO(AnomalibCheckpointIO):
    """anomalib's `CheckpointIO` that writes files whole, and names a file that cannot be read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint whole; Lightning's temporary file may be on another file system."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with whole_file(Path(path)) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # raised by torch for a full disk
            msg = f"{path}: the checkpoint cannot be written ({error})"
            raise OSError(msg) from error

    def load_checkpoint(self, path: str | Path, *options: Any, **more: Any) -> dict[str, Any]:
        """Check the file, then read it."""
        check_readable(path)
        return super().load_checkpoint(path, *options, **more)


def check_readable(path: str | Path) -> dict[str, Any]:
    """Check that a checkpoint exists and can be read, before Lightning tries.

    Returns:
        Its content, without the data of its tensors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or no checkpoint.
    """
    if not Path(path).is_file():
        msg = f"{path}: expected a checkpoint, found no such file"
        raise FileNotFoundError(msg)
    try:
        _check_packed_size(Path(path))
        with anomalib_safe_globals():
            content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:  # torch fails in many ways on damaged and foreign files
        msg = f"{path}: expected a checkpoint, but the file is truncated or of another kind ({type(error).__name__})"
        raise ValueError(msg) from error
    if not isinstance(content, dict) or not {"state_dict", "pytorch-lightning_version"} <= content.keys():
        msg = f"{path}: expected a checkpoint of Lightning, got another file of torch"
        raise ValueError(msg)
    for name in ("state_dict", "hyper_parameters"):
        entry = content.get(name, {})
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            msg = f"{path}: expected a checkpoint with {name} by name, got {entry!r:.60}"
            raise ValueError(msg)
    _check_tensor_size(content["state_dict"], Path(path))
    return content


def check_complete(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Check that a checkpoint has every trainable tensor in its shape, with values in their range.

    Raises:
        ValueError: If a tensor is missing, has another shape, or values out of range.
    """
    check_tensors(checkpoint["state_dict"], module.state_dict(), "the checkpoint")
    name = type(module).__name__
    found = {key: tuple(getattr(value, "shape", ())) for key, value in checkpoint["state_dict"].items()}
    for key, parameter in module.named_parameters():
        if parameter.requires_grad and found.get(key) != tuple(parameter.shape):
            msg = (
                f"expected a checkpoint of {name} with {key} of shape {tuple(parameter.shape)}, "
                f"got {found.get(key, 'none')}: it is of another model or of another configuration"
            )
            raise ValueError(msg)
    if differing := sorted(found.keys() ^ module.state_dict().keys()):
        msg = (
            f"expected a checkpoint of {name} with the tensors of this model, "
            f"got one {'with' if differing[0] in found else 'without'} {differing[0]} ({len(differing)} such tensors)"
        )
        raise ValueError(msg)


def check_backbone(saved: Any, ours: dict[str, Any], what: str) -> None:
    """Check that trained tensors are used with the backbone of their training.

    Args:
        saved: The identity of the backbone of the training.
        ours: The identity of the backbone of the model.
        what: The file, for the message.

    Raises:
        ValueError: If they differ, or the first is unknown.
    """
    if (
        not isinstance(saved, dict)
        or not {"fingerprint", "backbone", "pretrained", "image_size", *_SETTINGS} <= saved.keys()
    ):
        msg = f"{what} does not say which backbone it was trained with: expected what identifies one, got {saved!r}"
        raise ValueError(msg)
    if saved["fingerprint"] != ours["fingerprint"]:
        msg = f"{what} was trained with the backbone {_named(saved)}, but this model has {_named(ours)}"
        raise ValueError(msg)
    for key, words in _SETTINGS.items():
        if saved[key] != ours[key]:
            msg = f"{what} was trained with {words} of the backbone: {key}={saved[key]!r}, this model has {ours[key]!r}"
            raise ValueError(msg)


def _check_packed_size(path: Path) -> None:
    """Refuse a compressed file, which could grow without bounds: torch writes none."""
    if zipfile.is_zipfile(path):  # torch.load names what is wrong with others
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            msg = "its content is larger than the file"
            raise ValueError(msg)


def _check_tensor_size(tensors: dict[str, Any], path: Path) -> None:
    """Refuse tensors that would take more memory than the file has bytes, as views of a few bytes may."""
    sizes = (value.numel() * value.element_size() for value in tensors.values() if isinstance(value, torch.Tensor))
    if (needed := sum(sizes)) > _MOST_SHARED * path.stat().st_size:
        msg = f"{path}: expected a checkpoint, but its tensors take {needed} bytes, more than the file can hold"
        raise ValueError(msg)


def _named(identity: dict[str, Any]) -> str:
    return f"{identity['backbone']} ({identity['pretrained']}, fingerprint {identity['fingerprint'][:12]})"
