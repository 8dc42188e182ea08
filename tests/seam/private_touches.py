"""Finds what a package touches of other libraries that these do not promise, by reading its source."""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}
"""Private in form and documented by Python: the methods of named tuples, and `os._exit`."""
_BY_NAME = {"getattr", "hasattr", "setattr", "delattr"}
_DICTIONARIES = {"__class__", "__dict__", "__code__", "f_locals", "f_globals", "fset", "fget"}
"""Doors to the inside of an object."""


class Touch(NamedTuple):
    """A line that touches what another library does not promise."""

    file: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def touches_of(folder: Path) -> list[Touch]:
    """List what the modules of a package touch of others: private names, and what is replaced in them.

    Args:
        folder: The package; modules with classes are imported, since the bases tell which private names are inherited.
    """
    files = {path.relative_to(folder.parent): ast.parse(path.read_text("utf-8")) for path in folder.rglob("*.py")}
    ours = {name for tree in files.values() for name in _defined(tree)}
    inherited = {path: _inherited(path, tree) for path, tree in files.items()}
    theirs = {name for classes in inherited.values() for names in classes.values() for name in names} - PUBLIC
    found = set()
    for path, tree in files.items():
        reader = _Reader(path, _foreign_names(tree, folder.name), ours, theirs, inherited[path])
        reader.visit(tree)
        found.update(reader.found)
    return sorted(found)


class _Reader(ast.NodeVisitor):
    def __init__(
        self, path: Path, foreign: set[str], ours: set[str], theirs: set[str], inherited: dict[str, set[str]]
    ) -> None:
        self.path, self.foreign, self.ours, self.theirs, self.inherited = path, foreign, ours, theirs, inherited
        self.found: list[Touch] = []
        self.classes: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.classes.append(node.name)
        for part in node.body:
            name = getattr(part, "name", None) or getattr(getattr(part, "target", None), "id", "")
            if _is_private(name) and name in self._of_bases():
                self._note(part, f"overrides {name}")
        self.generic_visit(node)
        self.classes.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        inner, name = node.value, node.attr
        if _is_private(name):
            is_own = (isinstance(inner, ast.Name) and inner.id in {"self", "cls"}) or _is_super(inner)
            others = self._of_bases() if is_own else self.theirs
            if name in others or name not in self.ours:
                self._note(node)
        elif name in _DICTIONARIES:
            self._note(node)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Attribute) and _root(target) in self.foreign:
                self._note(node, f"replaces {ast.unparse(target)}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name, arguments = getattr(node.func, "id", ""), node.args
        if name in _BY_NAME and len(arguments) > 1:
            value = getattr(arguments[1], "value", "")
            root = _root(arguments[0])
            if (_is_private(str(value)) and (value in self.theirs or value not in self.ours)) or (
                name in {"setattr", "delattr"} and root in self.foreign
            ):
                self._note(node)
        if name == "vars" and arguments and _root(arguments[0]) not in {"self", "cls"}:
            self._note(node)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and _is_private(node.value) and node.value in self.theirs:
            self._note(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        if not any(alias.asname or alias.name in self.foreign for alias in node.names):
            return
        if any(map(_is_private, names)):
            self._note(node)

    def visit_Import(self, node: ast.Import) -> None:
        if any(_is_private(part) for alias in node.names for part in alias.name.split(".")):
            self._note(node)

    def _of_bases(self) -> set[str]:
        return (self.inherited.get(self.classes[-1], set()) if self.classes else set()) - PUBLIC

    def _note(self, node: ast.AST, what: str = "") -> None:
        self.found.append(Touch(self.path, node.lineno, what or ast.unparse(node).replace("\n", " ")))  # type: ignore[attr-defined]


def _is_private(name: str) -> bool:
    return name[:1] == "_" and name[1:2] not in {"_", ""} and name.isidentifier() and name not in PUBLIC


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def _defined(tree: ast.Module) -> Iterator[str]:
    """Name the functions, classes, fields and attributes of `self` that a module brings, and its variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _root(node) in {"self", "cls"}:
            yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"register_buffer", "register_parameter"}:
            yield str(getattr(node.args[0], "value", ""))


def _foreign_names(tree: ast.Module, package: str) -> set[str]:
    """Name what a module imports from others."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] != package:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _inherited(path: Path, tree: ast.Module) -> dict[str, set[str]]:
    """Give the private names that each class of a module has from bases outside of the package."""
    if not any(isinstance(node, ast.ClassDef) and node.bases for node in tree.body):
        return {}
    package = path.parts[0]
    module = importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    kinds = {name: kind for name, kind in vars(module).items() if getattr(kind, "__module__", "") == module.__name__}
    return {
        name: {
            private
            for base in kind.__mro__[1:]
            if base.__module__.split(".")[0] not in {package, "builtins", "abc", "typing"}
            for private in _privates_of(base)
        }
        for name, kind in kinds.items()
        if isinstance(kind, type)
    }


@cache
def _privates_of(base: type) -> set[str]:
    names = set(vars(base))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
    except (OSError, TypeError):  # of a class without source
        tree = ast.Module([], [])
    return set(filter(_is_private, {*names, *_defined(tree)}))
