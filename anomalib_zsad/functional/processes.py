"""Sums and lists over the processes of a distributed training; in a single process the values are unchanged."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor, distributed
from torch.autograd import Function

Known = TypeVar("Known")


def sum_over_processes(
    values: Tensor,  # any shape, the same in every process
) -> Tensor:
    """Sum a tensor over all processes, with gradients.

    A distributed training averages the gradients of its processes, so a loss that is a mean over images equals
    that of all their batches together. Any other loss must be computed from sums over all processes, the same in each.
    """
    return _Sum.apply(values) if _is_distributed() else values


def known_to_processes(known: Known, to_send: Callable[[Known], Known] | None = None) -> list[Known]:
    """Gather the values of all processes, in their order.

    Every process must call it at the same point: in a training step, not at the end of a training epoch, where the
    progress bar of the first process alone may already be waiting for the others.

    Args:
        known: Plain data, and tensors on the CPU: those of another device would come back on it.
        to_send: Makes such values of others, if there are several processes.
    """
    if not _is_distributed():
        return [known]
    known = known if to_send is None else to_send(known)
    everyones: list[Known] = [known] * distributed.get_world_size()
    distributed.all_gather_object(everyones, known)
    return everyones


def pooled(
    own: Iterable[Known],
) -> list[Known]:
    """List the items of every process, as `known_to_processes` takes them."""
    return [each for everyones in known_to_processes(list(own)) for each in everyones]


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(gradient)  # every process has a loss that depends on the values


def _summed(values: Tensor) -> Tensor:
    total = values.clone()
    distributed.all_reduce(total)
    return total


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
