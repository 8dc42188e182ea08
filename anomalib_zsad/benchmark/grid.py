"""What a benchmark runs, read from YAML, and the cells it consists of."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import yaml
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import import_object
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anomalib_zsad.benchmark.launch import Launcher
from anomalib_zsad.data.parts import parts_of
from anomalib_zsad.models.mixin import ZeroShotMixin

_STRICT = ConfigDict(extra="forbid")


@dataclass
class Spec:
    """A class and its arguments, as in every configuration of anomalib."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)

    def build(self, kind: Any, **more: Any) -> Any:
        """Build it; arguments given here go before those of the configuration.

        Args:
            kind: What it must be.
            **more: Arguments.

        Raises:
            ValueError: If the class is unknown, of another kind, or does not take the arguments.
        """
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--it", type=kind)
        wanted = {"class_path": self.class_path, "init_args": {**self.init_args, **more}}
        try:
            return parser.instantiate_classes(parser.parse_object({"it": wanted})).it
        except (ArgumentError, ImportError, AttributeError) as error:
            msg = f"{self.class_path}: expected a {kind.__name__} that takes {wanted['init_args']}, got: {error}"
            raise ValueError(msg) from error


@dataclass
class Entry(Spec):
    """A model of the benchmark.

    Args:
        class_path: The model's class.
        init_args: Its arguments.
        shots: Numbers of references to test it with (its `k_shot`). Empty: the argument is left alone.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    shots: list[int] = field(default_factory=list)

    @property
    def is_zero_shot(self) -> bool:
        """Whether it is trained on an auxiliary dataset, not on the normal images of every category."""
        return issubclass(import_object(self.class_path), ZeroShotMixin)


@dataclass
class Protocol:
    """What the models of this package are trained on, and what everything is tested on.

    Args:
        auxiliary: A datamodule; one that holds a single role is wrapped in `Auxiliary`.
        targets: Name to datamodule: all its categories are tested.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    auxiliary: Spec
    targets: dict[str, Spec]


@dataclass(frozen=True)
class Cell:
    """One test that has a result of its own; the category is None where all are tested at once."""

    model: str
    target: str
    category: str | None
    shots: int | None
    seed: int

    @property
    def name(self) -> str:
        """A path that no other cell has."""
        shots = [] if self.shots is None else [f"{self.shots}_shot"]
        category = [] if self.category is None else [self.category]
        return "/".join([self.model, self.target, *category, *shots, f"seed_{self.seed}"])


@dataclass
class Benchmark:
    """A grid of experiments.

    Args:
        models: Name to model.
        protocols: What is trained and tested on; every target has one name.
        seeds: Of training and of the choice of references.
        train_batch_size: Images in a batch of the auxiliary dataset.
        eval_batch_size: Images in a batch of a target.
        num_workers: Processes that read images.
        launcher: How many cells run at a time, and where. No part of what they are: results count wherever they ran.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    models: dict[str, Entry]
    protocols: list[Protocol]
    seeds: list[int] = field(default_factory=lambda: [0])
    train_batch_size: int = 8
    eval_batch_size: int = 8
    num_workers: int = 2
    launcher: Launcher = field(default_factory=Launcher)

    def __post_init__(self) -> None:
        names = [name for protocol in self.protocols for name in protocol.targets]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or not names or not self.models or not self.seeds:
            msg = f"expected models, seeds and targets, each target once, got {', '.join(doubled) or 'none'}" + (
                " more than once" if doubled else " of one of them"
            )
            raise ValueError(msg)

    @property
    def plumbing(self) -> dict[str, Any]:
        """How a target is read."""
        return {"eval_batch_size": self.eval_batch_size, "num_workers": self.num_workers}

    def protocol_of(self, target: str) -> Protocol:
        """Find the protocol that tests on a target."""
        return next(each for each in self.protocols if target in each.targets)

    def training_of(self, cell: Cell) -> str | None:
        """Name the training that a cell shares with others; None where it trains by itself, or needs none."""
        entry = self.models[cell.model]
        if not entry.is_zero_shot or entry.init_args.get("weights") is not None:
            return None
        number = self.protocols.index(self.protocol_of(cell.target))
        return f"{cell.model}/protocol_{number}/seed_{cell.seed}"

    def cells(self) -> Iterator[Cell]:
        """Name every cell; those of one training follow each other."""
        for name, entry in self.models.items():
            for protocol in self.protocols:
                for seed in self.seeds:
                    for target in protocol.targets:
                        yield from self._cells(name, entry, target, seed)

    def fingerprint(self, cell: Cell) -> str:
        """Digest all that decides a cell's result: with other settings a finished cell does not count."""
        protocol, entry = self.protocol_of(cell.target), self.models[cell.model]
        decisive: list[Any] = [asdict(cell), entry.class_path, entry.init_args, asdict(protocol.targets[cell.target])]
        decisive += [asdict(protocol.auxiliary), self.train_batch_size] if entry.is_zero_shot else []
        return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()

    def _cells(self, name: str, entry: Entry, target: str, seed: int) -> Iterator[Cell]:
        categories: list[str | None] = [None]
        if not entry.is_zero_shot:
            with suppress(OSError, ValueError):  # of a dataset that is not there: said by its cell
                categories = list(parts_of(self.protocol_of(target).targets[target].build(AnomalibDataModule)))
        references: list[int | None] = [*entry.shots] or [None]
        for category in categories:
            for shots in references:
                yield Cell(name, target, category, shots, seed)


def read_benchmark(path: Path) -> Benchmark:
    """Read the configuration of a benchmark.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none.
    """
    if not path.is_file():
        msg = f"{path}: expected the configuration of a benchmark, found no such file"
        raise FileNotFoundError(msg)
    try:
        return TypeAdapter(Benchmark).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{path}: expected the configuration of a benchmark, but {where}: {first['msg']}".replace(
            "but : ", "but "
        )
        raise ValueError(msg) from error
    except yaml.YAMLError as error:
        msg = f"{path}: expected the configuration of a benchmark, but it is no YAML ({' '.join(str(error).split())})"
        raise ValueError(msg) from error


def build_model(entry: Entry, cell: Cell, **components: Any) -> AnomalibModule:
    """Build the model of a cell: with the cell's references and, where it takes one, the cell's seed."""
    takes = signature(import_object(entry.class_path)).parameters
    own = {"seed": cell.seed} if "seed" in takes else {}
    if cell.shots is not None:
        own["k_shot"] = cell.shots
    return entry.build(AnomalibModule, **own, **components)
