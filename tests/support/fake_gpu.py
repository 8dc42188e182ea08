"""A GPU that is not there: its tensors have shapes, types and a device, and no values (`FakeTensorMode`)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_COPIES = {"aten::_to_copy", "aten::copy_"}
_READS = {"aten::_local_scalar_dense"}
_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm"}
_OF_ONE_TYPE = {
    *("aten::mm", "aten::addmm", "aten::bmm", "aten::mv", "aten::addmv"),
    *("aten::convolution", "aten::grid_sampler_2d"),
    *("aten::index_add", "aten::index_put", "aten::index_put_", "aten::binary_cross_entropy"),
}
"""Operations that take floating-point tensors of one type, which FakeTensorMode does not check."""


class NotOnAGpuError(AssertionError):
    """Raised by operations that a GPU refuses, or for which the CPU waits until the GPU has nothing left to do."""


class FakeBatch(SimpleNamespace):
    """The fields of a batch; anomalib's dataclass reads the values of its images."""

    def update(self, **fields: Any) -> "FakeBatch":
        """Set fields, as anomalib's batches do."""
        vars(self).update(fields)
        return self


class FakeGpu(TorchDispatchMode):
    """Watches the operations of a `fake_gpu`."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self.mode = mode
        self.products: set[torch.dtype] = set()
        """The types of the results of matrix products so far."""

    def moved(self, given: Any) -> Any:
        """Copy a module, a batch or a tensor to the device."""
        if isinstance(given, FakeBatch):
            return FakeBatch(**{name: self.moved(each) for name, each in vars(given).items()})
        if isinstance(given, nn.Module):
            with _disable_current_modes():
                given = deepcopy(given)  # models share the weights of their backbone
            for part in given.modules():
                for held in (part._parameters, part._buffers):
                    held.update({name: self.moved(each) for name, each in held.items()})
            return given
        return self._made(given) if isinstance(given, Tensor) else given

    def _made(self, tensor: Tensor) -> Tensor:
        with self.mode:
            made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
        return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        given = _tensors([*args, *kwargs.values()])
        _check(name, given, args, kwargs)
        result = func(*args, **kwargs)
        # Numbers on the CPU may be used everywhere.
        devices = {each.device.type for each in (*(each for each in given if each.ndim), *_tensors([result]))}
        if name not in _COPIES and len(devices) > 1:
            raise NotOnAGpuError(f"{name}: tensors of {sorted(devices)}")
        if name in _PRODUCTS:
            self.products.add(result.dtype)
        return result


@contextmanager
def fake_gpu(autocast: torch.dtype | None = None) -> Iterator[FakeGpu]:
    """Run operations of what was `moved` there, with autocast to a type where one is given."""
    gpu = FakeGpu(FakeTensorMode(allow_non_fake_inputs=True))
    with pytest.MonkeyPatch.context() as patch:
        # Without a GPU, torch switches autocast off.
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        patch.setattr("torch.cuda.is_bf16_supported", lambda: True)
        with gpu.mode, gpu, torch.autocast("cuda", autocast, enabled=autocast is not None):
            yield gpu


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    lists = (each if isinstance(each, list | tuple) else [each] for each in values)
    return [each for some in lists for each in some if isinstance(each, Tensor)]


def _check(name: str, given: list[Tensor], args: Any, kwargs: Any) -> None:
    if name in _READS and given[0].is_cuda:
        raise NotOnAGpuError(f"{name}: a value is read")
    if name in _COPIES:
        source = given[-1]
        to = given[0].device if name == "aten::copy_" else torch.device(kwargs.get("device") or source.device)
        is_waited_for = not (kwargs.get("non_blocking") or args[2:3] == (True,))
        if to.type != source.device.type and (source.is_cuda or is_waited_for):
            raise NotOnAGpuError(f"{name}: from {source.device.type} to {to.type}, and the CPU waits")
    if name in _OF_ONE_TYPE and len(found := {each.dtype for each in given if each.is_floating_point()}) > 1:
        raise NotOnAGpuError(f"{name}: tensors of {sorted(map(str, found))}")
