"""Checks of arguments, for the backbone and all methods."""

from collections.abc import Sequence


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Check that an argument is one of a few values.

    Raises:
        ValueError: If it is another.
    """
    if value not in choices:
        msg = f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}"
        raise ValueError(msg)
