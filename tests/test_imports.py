"""Imports between the rooms of the package go one way."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "anomalib_zsad"
ROOT = Path(__file__).parents[1] / PACKAGE

ORDER = (
    "functional",
    "clip",
    "data",
    "evaluation",
    "line",
    "knowledge",
    "models",
    "benchmark",
    "synthetic",
    "installation",
    "commands",
    "cli",
)
"""A room imports itself, those to its left, and the modules for all.

`knowledge` stands before `models` because KAnoCLIP's prompts are made of a knowledge base.
"""

FOR_ALL = {"__file__", "_version", "arguments", "atomic", "image_files", "paths", "printing", "seam", "yaml_file"}
"""What every room may import, and what imports nothing else of the package."""

DOORS = {"__init__", "__main__", "anomalib"}
"""What makes the names of all rooms public."""

LIBRARIES = {"numpy", "scipy", "torch"}
"""What the mathematics in `functional` is written with, besides Python's own."""

CORE = {"functional", "clip"}
FRAMEWORKS = {"anomalib", "jsonargparse", "lightning", "torchmetrics"}
"""Libraries that no module of the core imports."""

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""By module and the room it imports, why."""


def imports() -> Iterator[tuple[str, str]]:
    """Yield (module, what it imports) for all modules of the package, lazy imports and those for types included."""
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module}:{node.lineno}: a relative import"
                whole = node.module == PACKAGE  # `from anomalib_zsad import arguments`
                yield from ((module, f"{PACKAGE}.{alias.name}" if whole else str(node.module)) for alias in node.names)


def room_of(module: str) -> str:
    return module.split(".")[0]


def is_allowed(module: str, imported: str) -> bool:
    room, other = room_of(module), room_of(imported)
    if room == other or room in DOORS or other in FOR_ALL:
        return True
    return room in ORDER and other in ORDER[: ORDER.index(room)]


INSIDE = {(module, name.removeprefix(f"{PACKAGE}.")) for module, name in imports() if room_of(name) == PACKAGE}
FORBIDDEN = {(module, room_of(name)) for module, name in INSIDE if not is_allowed(module, name)}


def test_every_room_has_its_place() -> None:
    assert {room_of(module) for module, _ in imports()} <= {*ORDER, *FOR_ALL, *DOORS}


def test_imports_go_one_way() -> None:
    assert sorted(FORBIDDEN - EXCEPTIONS.keys()) == []


def test_every_exception_is_needed() -> None:
    assert sorted(EXCEPTIONS.keys() - FORBIDDEN) == []


def test_the_mathematics_needs_few_libraries() -> None:
    names = {room_of(name) for module, name in imports() if room_of(module) == "functional"}
    assert names - {PACKAGE} - sys.stdlib_module_names <= LIBRARIES


def test_the_core_knows_no_framework() -> None:
    assert not [(module, name) for module, name in imports() if room_of(module) in CORE if room_of(name) in FRAMEWORKS]
