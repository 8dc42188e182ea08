"""What images pass in a model as compiled graphs (`torch.compile`), in place: tensors keep their names.

The frozen tower, the comparison with text, the scores and the losses are a whole graph each. Between them stays what
no graph should hold: encoded text that is remembered, cached features, tiles, the memory of references.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypeVar, overload

import torch
from torch import Tensor, nn
from torchvision.tv_tensors import TVTensor

from anomalib_zsad.seam.compiler import CompilerError, compiled, freezes, may_vary
from anomalib_zsad.seam.tensors import version_of

F = TypeVar("F", bound=Callable[..., Any])

Mode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""Of `torch.compile`."""
Compile = bool | Mode
"""Whether a model is compiled, and in which mode."""


class Compilable(nn.Module):
    """A module with methods that are a `whole_graph`."""

    graphs: "Graphs | None" = None
    """Those that `compile_in_place` has set; None: the methods run as they are."""


class Graphs:
    """The compiled methods of one module, made when they are first called. A copy compiles anew.

    Args:
        mode: Of `torch.compile`.
        backend: Of `torch.compile`.
    """

    def __init__(self, mode: Mode, backend: str) -> None:
        self.mode: Mode = mode
        self.backend = backend
        self._made: dict[tuple[Callable[..., Any], bool], Callable[..., Any]] = {}
        self._frozen: object = None

    @property
    def overwrite(self) -> bool:
        """Whether they are CUDA graphs, which write what they return into the same memory in every step."""
        return self.mode in {"reduce-overhead", "max-autotune"}

    def __reduce__(self) -> Any:  # of a copy or a pickle
        return Graphs, (self.mode, self.backend)

    def run(self, method: Callable[..., Any], module: nn.Module, given: Any, named: Any, varies: bool) -> Any:
        """Call a method as a compiled graph.

        Raises:
            RuntimeError: If this machine cannot compile it.
        """
        frozen = self._weights_frozen_in(module)
        if (method, frozen) not in self._made:
            dynamic = None if varies else False
            self._made[method, frozen] = compiled(method, module, self.mode, self.backend, dynamic)
        given, named = [_plain(each) for each in given], {name: _plain(each) for name, each in named.items()}
        if not varies:
            _mark_batches([*given, *named.values()])
        try:
            return self._made[method, frozen](*given, **named)
        except CompilerError as error:
            reason = str(error).strip().splitlines()[0]
            msg = (
                f"compile: torch.compile failed on this machine at {method.__qualname__} ({reason}): it needs a C++ "
                f"compiler, and on a GPU triton; install what is missing, or leave compile at its default, False"
            )
            raise RuntimeError(msg) from error

    def _weights_frozen_in(self, module: nn.Module) -> bool:
        """Say whether graphs hold the weights as constants; those that hold others than the module has now go."""
        if not freezes():
            return False
        state = [(id(each), version_of(each)) for each in (*module.parameters(), *module.buffers())]
        if state != self._frozen:
            self._made = {key: graph for key, graph in self._made.items() if not key[1]}
            self._frozen = state
        return True


def compile_in_place(module: nn.Module, mode: Mode = "default", backend: str = "inductor") -> None:
    """Let all parts of a module run their graphs compiled, from their next call on."""
    for part in module.modules():
        if isinstance(part, Compilable):
            part.graphs = Graphs(mode, backend)


def run_as_written(module: nn.Module) -> None:
    """Undo `compile_in_place`."""
    for part in module.modules():
        if isinstance(part, Compilable):
            part.graphs = None


def begin_step(module: nn.Module) -> None:
    """Begin to run graphs anew: CUDA graphs may overwrite what they returned before."""
    if _overwrites(module):
        torch.compiler.cudagraph_mark_step_begin()


def kept(value: Tensor, module: nn.Module) -> Tensor:
    """Copy what outlives a step, where the CUDA graphs of a module would overwrite it."""
    return value.clone() if _overwrites(module) else value


@overload
def whole_graph(method: F) -> F: ...


@overload
def whole_graph(*, varies: bool) -> Callable[[F], F]: ...


def whole_graph(method: Any = None, *, varies: bool = False) -> Any:
    """Mark a method of a `Compilable` that can be compiled as one graph, without breaks.

    The first axis of the tensors that it is given is that of the batch: one graph serves all batches of two images and
    more, so that a last, smaller one is not compiled anew, and another one single images. Other sizes are constants of
    a graph.

    Args:
        method: The method.
        varies: Its tensors have the batch along other axes: sizes that differ from those of the first call vary from
            the second graph on.
    """

    def decorate(method: F) -> F:
        @wraps(method)
        def call(module: Compilable, *given: Any, **named: Any) -> Any:
            if module.graphs is None or torch.compiler.is_compiling():
                return method(module, *given, **named)
            return module.graphs.run(method, module, given, named, varies)

        return call  # type: ignore[return-value]

    return decorate if method is None else decorate(method)


def _overwrites(module: nn.Module) -> bool:
    return isinstance(module, Compilable) and module.graphs is not None and module.graphs.overwrite


def _plain(value: Any) -> Any:
    """Unwrap an image or a mask, as batches of anomalib have them: their own operations are none of a graph."""
    return value.as_subclass(Tensor) if isinstance(value, TVTensor) else value


def _mark_batches(values: Any) -> None:
    for value in values:
        if isinstance(value, Tensor) and value.ndim and value.shape[0] > 1:
            may_vary(value, axis=0)
        elif isinstance(value, list | tuple):
            _mark_batches(value)
