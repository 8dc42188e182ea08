"""From a model to an adapter file and back: what was learnt, its thresholds, its backbone and its training data."""

import json
import logging
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from anomalib_zsad.models.adapter_file import save_adapter
from anomalib_zsad.models.checkpoint import check_backbone

logger = logging.getLogger(__name__)

_THRESHOLDS = ("_image_threshold", "_pixel_threshold")
_PREFIX = "post_processor."


def save_trained(
    module: Any,  # an AnomalibModule with a `model` and `trained_on`
    path: str | Path,
) -> None:
    """Write what a model has learnt to an adapter file, a few megabytes of safetensors."""
    metadata = {
        "method": type(module).__name__,
        "backbone": json.dumps(module.model.clip.identity),
        "trained_on": json.dumps(module.trained_on),
    }
    save_adapter(Path(path), {**_learnt(module), **_thresholds(module)}, metadata)


def load_trained(
    module: Any,  # an AnomalibModule with a `model` and `trained_on`
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    origin: str,
) -> None:
    """Put what was learnt into a model.

    Args:
        module: The model, changed in place.
        tensors: By the names of the model's own parameters; thresholds may be among them.
        metadata: Of the file: "method", and where they are known "backbone" and "trained_on".
        origin: The file, for messages.

    Raises:
        ValueError: If the tensors are of another method, backbone or shape.
    """
    name = type(module).__name__
    if metadata.get("method", name) != name:
        msg = f"{origin}: expected weights of {name}, got those of {metadata['method']}"
        raise ValueError(msg)
    if "backbone" in metadata:
        saved, ours = json.loads(metadata["backbone"]), module.model.clip.identity
        check_backbone(saved, ours, origin)
        if saved["image_size"] != ours["image_size"]:
            logger.warning("%s: trained at %s px, used at %s.", origin, saved["image_size"], ours["image_size"])
    _check_shapes(_learnt(module), {key: v for key, v in tensors.items() if not key.startswith(_PREFIX)}, origin)
    module.model.load_state_dict({key: v for key, v in tensors.items() if not key.startswith(_PREFIX)}, strict=False)
    for key, target in _thresholds(module).items():
        if key in tensors:
            target.copy_(tensors[key])
    module.trained_on = json.loads(metadata.get("trained_on", '["unknown"]'))


def _learnt(module: Any) -> dict[str, Tensor]:
    parameters = {key: value.detach() for key, value in module.model.named_parameters() if value.requires_grad}
    norms = {name: each for name, each in module.model.named_modules() if isinstance(each, _BatchNorm)}
    running = {f"{name}.{key}": value for name, each in norms.items() for key, value in each.named_buffers()}
    return {**parameters, **running}


def _thresholds(module: Any) -> dict[str, Tensor]:
    found = {name: getattr(module.post_processor, name, None) for name in _THRESHOLDS}
    return {_PREFIX + name: value for name, value in found.items() if value is not None}


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
