"""Checks of arguments, for the backbone and all methods."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Check that an argument is one of a few values.

    Raises:
        ValueError: If it is another.
    """
    if value not in choices:
        msg = f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}"
        raise ValueError(msg)


def check_choices(function: Callable[..., Any], given: Mapping[str, object]) -> None:
    """Check all arguments that a function annotates as one of a few values, or as one of them or None.

    Raises:
        ValueError: If one of them is another.
    """
    for name, hint in get_type_hints(function).items():
        parts = (hint, *get_args(hint))
        choices = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
        if choices:
            check_choice(name, given[name], [*choices, None] if type(None) in parts else choices)
