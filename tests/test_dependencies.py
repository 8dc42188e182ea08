"""The distributions that the package imports are those that pyproject.toml declares."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def test_what_is_imported_is_declared_and_the_reverse() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = names(project["dependencies"])
    optional = names([each for extra in ("export", "serve") for each in project["optional-dependencies"][extra]])
    distributions = packages_distributions()
    imported = {package: canonical(distributions[package]) for package in sorted(imported_packages())}

    undeclared = {package for package, of in imported.items() if not of & (required | optional)}
    assert not undeclared
    assert required <= set().union(*imported.values())


def imported_packages() -> set[str]:
    """Top-level packages that the package imports, but for those of Python."""
    modules = {name.partition(".")[0] for path in (ROOT / "anomalib_zsad").rglob("*.py") for name in imports(path)}
    return modules - {"anomalib_zsad", *sys.stdlib_module_names}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def names(requirements: list[str]) -> set[str]:
    return canonical(re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements)


def canonical(distributions: Any) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in distributions}
