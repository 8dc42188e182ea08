"""Finds what a package touches of other libraries that these do not promise, by reading its source."""

import ast
import importlib
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}
"""Private in form and documented by Python: the methods of named tuples, and `os._exit`."""
_BY_NAME = {"getattr", "hasattr", "setattr", "delattr"}
_PYTHON = {"builtins", "abc", "typing"}
_CHANGING = {"update", "pop", "setdefault", "clear"}
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
    inherited = _inherited(files, folder.name)
    theirs = {name for classes in inherited.values() for names in classes.values() for name in names} - PUBLIC
    found = set()
    for path, tree in files.items():
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        methods = {part for node in classes for part in node.body}
        functions = {node.name for node in {*ast.walk(tree)} - methods if isinstance(node, ast.FunctionDef)}
        reader = _Reader(path, _foreign_names(tree, folder.name), functions, ours, theirs, inherited[path])
        reader.visit(tree)
        found.update(reader.found)
    return sorted(found)


class _Reader(ast.NodeVisitor):
    def __init__(
        self,
        path: Path,
        foreign: set[str],  # names that the module imports from others
        functions: set[str],  # those of the module
        ours: set[str],  # all names that the package brings
        theirs: set[str],  # all private names that its classes inherit
        inherited: dict[str, set[str]],  # the same by class of the module
    ) -> None:
        self.path, self.foreign, self.functions = path, foreign, functions
        self.ours, self.theirs, self.inherited = ours, theirs, inherited
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
            replaces = isinstance(target, ast.Attribute) and _root(target) not in {"self", "cls"}
            if replaces and (_root(target) in self.foreign or _is_function(node.value, self.functions)):
                self._note(node, f"replaces {ast.unparse(target)}")
            if isinstance(target, ast.Subscript) and _is_vars(target.value):
                self._note(node)
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
        if isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING and _is_vars(node.func.value):
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


def _is_vars(node: ast.AST) -> bool:
    is_vars = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "vars"
    return is_vars and bool(node.args) and _root(node.args[0]) not in {"self", "cls"}


def _is_function(node: ast.AST, functions: set[str]) -> bool:
    """Tell whether a value is a function: one of the module, or made on the spot."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") in {"partial", "partialmethod", "MethodType", "staticmethod"}
    return isinstance(node, ast.Lambda) or getattr(node, "id", "") in functions


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


def _inherited(files: Mapping[Path, ast.Module], package: str) -> dict[Path, dict[str, set[str]]]:
    """Give the private names that each class has from bases outside of the package, those of its subclasses included.

    A mixin is a class of what it is mixed into.
    """
    kinds = {
        path: _classes_of(path)
        for path, tree in files.items()
        if any(isinstance(node, ast.ClassDef) for node in tree.body)
    }
    names: dict[type, set[str]] = defaultdict(set)
    for kind in [kind for classes in kinds.values() for kind in classes.values()]:
        ours = [base for base in kind.__mro__ if base.__module__.split(".")[0] == package]
        others = [base for base in kind.__mro__ if base not in ours and base.__module__ not in _PYTHON]
        for base in ours:
            names[base].update(*map(_privates_of, others))
    return {path: {name: names[kind] for name, kind in kinds.get(path, {}).items()} for path in files}


def _classes_of(path: Path) -> dict[str, type]:
    module = importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    named = vars(module).items()
    return {name: kind for name, kind in named if isinstance(kind, type) and kind.__module__ == module.__name__}


@cache
def _privates_of(base: type) -> set[str]:
    names = set(vars(base))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
    except (OSError, TypeError):  # of a class without source
        tree = ast.Module([], [])
    return set(filter(_is_private, {*names, *_defined(tree)}))
