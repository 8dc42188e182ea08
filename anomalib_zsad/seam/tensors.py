"""What torch keeps to itself: how often a tensor was changed, and the parts of a module."""

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def version_of(tensor: Tensor) -> int:
    """Return a number that grows whenever a tensor is changed in place, as a step of an optimiser does."""
    return tensor._version


def sharing_copy(module: M) -> M:
    """Copy a LightningModule so that parts and hyper-parameters can be exchanged; the parts themselves are shared."""
    shared = copy(module)
    shared._modules = dict(module._modules)
    if hasattr(module, "_hparams"):
        shared._hparams = copy(module._hparams)
    return shared


def parts_in(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name the tensors and modules among the fields that a pickle has of a module, scripted or not."""
    if "_parameters" not in fields:  # the fields of a scripted one are its parts
        return fields
    kinds = ("_parameters", "_buffers", "_modules")
    return {name: part for kind in kinds for name, part in fields.get(kind, {}).items()}
