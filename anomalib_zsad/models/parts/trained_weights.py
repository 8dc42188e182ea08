"""Saving the trained tensors and the memory of a model to an adapter file, and loading them."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anomalib_zsad.evaluation.post_processor import take_thresholds
from anomalib_zsad.models.parts.adapter_file import Adapter, save_adapter
from anomalib_zsad.models.parts.checkpoint import check_backbone
from anomalib_zsad.models.parts.memory import MemoryBank
from anomalib_zsad.models.parts.record import Record, to_metadata
from anomalib_zsad.models.parts.validity import check_tensors

logger = logging.getLogger(__name__)

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_OLD_THRESHOLDS = {"post_processor._image_threshold": "image", "post_processor._pixel_threshold": "pixel"}
"""Version 0.1 kept thresholds among the tensors."""


def save_trained(
    module: Any,  # a Detector
    path: str | Path,
    record: Record | None = None,
) -> None:
    """Write the trained tensors and the memory of a model to an adapter file: a few megabytes without a memory.

    Args:
        module: The model.
        path: The file.
        record: The record in it. None: that of the model.
    """
    metadata = to_metadata(module.record() if record is None else record)
    save_adapter(Path(path), {**_learnt(module), **_remembered(module)}, metadata)


def load_trained(
    module: Any,  # a Detector
    adapter: Adapter,
    origin: str,
) -> None:
    """Load trained tensors into a model that was built with the settings of their record.

    Args:
        module: The model, changed in place.
        adapter: Tensors by their names in the model, and their record.
        origin: The file, for messages.

    Raises:
        ValueError: If the tensors belong to another backbone, or have other shapes or values out of range.
    """
    record = adapter.record
    tensors = {key: value for key, value in adapter.tensors.items() if key not in _OLD_THRESHOLDS}
    if record["backbone"] is not None:
        check_backbone(record["backbone"], module.model.encoder.clip.identity, origin)
    memories = {f"{name}.features" for name, each in module.model.named_modules() if isinstance(each, MemoryBank)}
    _check_shapes(_learnt(module), {key: value for key, value in tensors.items() if key not in memories}, origin)
    unknown = dict.fromkeys(_OLD_THRESHOLDS, torch.tensor(float("nan")))
    check_tensors(adapter.tensors, {**module.model.state_dict(), **unknown}, origin)
    module.model.load_state_dict(tensors, strict=False)
    old = {name: adapter.tensors[key].item() for key, name in _OLD_THRESHOLDS.items() if key in adapter.tensors}
    take_thresholds(module.post_processor, {**old, **record["thresholds"]})
    module.take(record)


def _learnt(module: Any) -> dict[str, Tensor]:
    parameters = {key: value.detach() for key, value in module.model.named_parameters() if value.requires_grad}
    norms = {name: each for name, each in module.model.named_modules() if isinstance(each, _NORMS)}
    running = {f"{name}.{key}": value for name, each in norms.items() for key, value in each.named_buffers()}
    return {**parameters, **running}


def _remembered(module: Any) -> dict[str, Tensor]:
    memories = ((name, each) for name, each in module.model.named_modules() if isinstance(each, MemoryBank))
    return {f"{name}.features": each.features for name, each in memories if not each.is_empty}


def _check_shapes(ours: dict[str, Tensor], given: dict[str, Tensor], origin: str) -> None:
    expected, found = ({key: tuple(value.shape) for key, value in each.items()} for each in (ours, given))
    differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if differing:
        key = differing[0]
        msg = (
            f"{origin}: these weights do not fit this model and its backbone: expected {key} of shape "
            f"{expected.get(key, 'none')}, got {found.get(key, 'none')} ({len(differing)} such tensors)"
        )
        raise ValueError(msg)
