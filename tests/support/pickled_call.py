"""A pickle that calls a function when it is read: what must never be run."""

from collections.abc import Callable
from typing import Any


class Call:
    """Its pickle asks for a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call
