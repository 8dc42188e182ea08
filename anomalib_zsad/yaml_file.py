"""YAML files of users, read within bounds."""

from pathlib import Path
from typing import Any

import yaml

_LONGEST = 1 << 20  # bytes
_MOST_VALUES = 100_000


def read_yaml(path: Path, expected: str) -> Any:
    """Read a YAML file.

    Args:
        path: The file, of at most a megabyte and 100 000 values, where those behind an alias count each time.
        expected: What it is to hold, for messages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or is larger.
    """
    if not path.is_file():
        msg = f"{path}: expected {expected}, found no such file"
        raise FileNotFoundError(msg)
    try:
        loader = yaml.SafeLoader(_text(path))
        node = loader.get_single_node()
        _check_size(node)
        return None if node is None else loader.construct_document(node)
    except Exception as error:  # values that look like dates and numbers fail in many ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        msg = f"{path}: expected {expected}, but it is no YAML that can be read ({reason})"
        raise ValueError(msg) from error


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        msg = "it is longer than a megabyte"
        raise ValueError(msg)
    return content.decode("utf-8")


def _check_size(node: yaml.Node | None) -> None:
    """Count values as a program meets them that walks through all: without end, where one is part of itself."""
    waiting = [node]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        found = waiting.pop()
        if isinstance(found, yaml.MappingNode):
            waiting += [each for pair in found.value for each in pair]
        elif isinstance(found, yaml.SequenceNode):
            waiting += found.value
    msg = f"it has more than {_MOST_VALUES} values, those behind its aliases counted each time"
    raise ValueError(msg)
