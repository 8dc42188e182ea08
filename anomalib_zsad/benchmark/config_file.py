"""Reads and checks the configuration of a benchmark."""

from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from pydantic import TypeAdapter, ValidationError

from anomalib_zsad.benchmark.entries import Spec
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.yaml_file import read_yaml


def read_benchmark(path: Path) -> Benchmark:
    """Read the configuration of a benchmark.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none.
    """
    expected = f"{path}: expected the configuration of a benchmark, but"
    content = read_yaml(path, "the configuration of a benchmark")
    if not isinstance(content, dict):
        msg = f"{expected} it has no models and protocols: {content!r}"
        raise ValueError(msg)
    try:
        benchmark = TypeAdapter(Benchmark).validate_python(content)
        check_classes(benchmark)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{expected} {where}: {first['msg']}".replace("but : ", "but ")
        raise ValueError(msg) from error
    except ValueError as error:
        msg = f"{expected} {error}"
        raise ValueError(msg) from error
    return benchmark


def check_classes(benchmark: Benchmark) -> None:
    """Check every class and its arguments, before any cell is run.

    Raises:
        ValueError: If one is unknown, of another kind, or takes other arguments.
    """
    for name, entry in benchmark.models.items():
        members: dict[str, Any] = {"models": []} if entry.members else {}
        _check_part(f"models.{name}", entry, AnomalibModule, **members)
    for number, protocol in enumerate(benchmark.protocols):
        _check_part(f"protocols.{number}.auxiliary", protocol.auxiliary, AnomalibDataModule)
        for name, target in protocol.targets.items():
            _check_part(f"protocols.{number}.targets.{name}", target, AnomalibDataModule)


def _check_part(where: str, spec: Spec, kind: type, **more: Any) -> None:
    try:
        spec.check(kind, **more)
    except ValueError as error:
        msg = f"{where}: {error}"
        raise ValueError(msg) from error
