"""torch's compiler: a graph of its own for each module, sizes that vary, and its errors."""

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._dynamo import maybe_mark_dynamic
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.mutation_guard import install_generation_tagging_init
from torch._dynamo.utils import is_parameter_freezing

CompilerError = BackendCompilerFailed
"""A graph that was traced cannot be compiled, as on a machine without a C++ compiler."""


def compiled(
    method: Callable[..., Any],
    module: nn.Module,
    mode: str,
    backend: str,
    dynamic: bool | None,
) -> Callable[..., Any]:
    """Compile a method of one module as a whole graph.

    Graphs are counted by code, and after a few no more are made: each module has a copy of the code, so that those of
    several models in a process do not add up.
    """
    _keep_constructor()
    held = cast("FunctionType", method)
    copy = FunctionType(held.__code__.replace(), held.__globals__, held.__name__, held.__defaults__, held.__closure__)
    copy.__kwdefaults__ = held.__kwdefaults__
    return torch.compile(
        MethodType(copy, module),
        fullgraph=True,
        dynamic=dynamic,
        backend=backend,
        mode=mode if backend == "inductor" else None,
    )


def may_vary(tensor: Tensor, axis: int) -> None:
    """Let the size of an axis vary in the graph that is traced with a tensor, unless the graph fixes it."""
    maybe_mark_dynamic(tensor, axis)


def freezes() -> bool:
    """Whether a graph that is made now holds weights as constants: `TORCHINDUCTOR_FREEZING`, without gradients."""
    return is_parameter_freezing()


def _keep_constructor() -> None:
    """Let jsonargparse find the constructor that the compiler replaces: it looks for it by the name of the function."""
    install_generation_tagging_init()
    setattr(nn.Module, nn.Module.__init__.__name__, nn.Module.__init__)
