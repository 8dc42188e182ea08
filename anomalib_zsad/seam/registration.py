"""The names of this package in anomalib: `get_model`, `get_datamodule`, and what is built on them.

anomalib imports models only from modules that it lists, looks for datamodules among the attributes of its own package,
and has one table of a benchmark only for models of the same arguments and metrics. Nothing heavy is imported here: each
name is resolved at its first use.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_PACKAGE = "anomalib_zsad"


def announce() -> None:
    """Make the names of this package known to anomalib's, now or as soon as these are imported."""
    for name, extend in _CALLS.items():
        if name in sys.modules:
            extend(sys.modules[name])
        else:
            sys.meta_path.insert(0, _AfterImport(name, extend))


class _AfterImport(MetaPathFinder):
    """Calls a function with a module, once, after its import."""

    def __init__(self, name: str, call: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.call = call

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        del path, target
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_call(module: ModuleType) -> None:
                execute(module)
                self.call(module)

            spec.loader.exec_module = execute_and_call  # type: ignore[method-assign]
        return spec


def _extend_models(module: Any) -> None:
    by_name = module._get_model_class_by_name

    def by_our_name(name: str) -> type:
        package, _, own = name.rpartition(".")
        return getattr(import_module(_PACKAGE), own) if package == _PACKAGE else by_name(name)

    module.ALLOWED_MODULES.update({_PACKAGE, f"{_PACKAGE}.models"})
    module._get_model_class_by_name = by_our_name
    module.__getattr__ = _attributes_of(module, f"{_PACKAGE}.models")


def _extend_data(module: Any) -> None:
    module.__getattr__ = _attributes_of(module, f"{_PACKAGE}.data", f"{_PACKAGE}.synthetic")


def _join_tables(module: Any) -> None:
    def collect(results: list[dict[str, Any]]) -> Any:
        return module.pd.DataFrame(results)

    module.BenchmarkJob.collect = staticmethod(collect)


def _attributes_of(module: ModuleType, *homes: str) -> Callable[[str], Any]:
    def attribute(name: str) -> Any:
        if name[:1].isupper():
            for home in map(import_module, homes):
                if name in home.__all__:
                    return getattr(home, name)
        msg = f"module {module.__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)

    return attribute


_CALLS: dict[str, Callable[[ModuleType], None]] = {
    "anomalib.models": _extend_models,
    "anomalib.data": _extend_data,
    "anomalib.pipelines.benchmark.job": _join_tables,
}
