"""A benchmark as a grid, and the cells it consists of."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from typing import Any, ClassVar

from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule, WinClip
from pydantic import ConfigDict

from anomalib_zsad.benchmark.entries import STRICT, Entry, Protocol, Spec
from anomalib_zsad.benchmark.launch import Launcher
from anomalib_zsad.data.categories import parts_of
from anomalib_zsad.paths import path_component
from anomalib_zsad.seam.anomalib_models import attend_within_windows

PLUMBING = ("eval_batch_size", "num_workers")
"""Arguments of a datamodule that change no result."""


@dataclass(frozen=True)
class Cell:
    """One test that has a result of its own; the category is None where all are tested at once."""

    model: str
    target: str
    category: str | None
    shots: int | None
    seed: int
    trained: int | None = None
    """The seed of the training, where `seed` is the draw of references."""

    @property
    def training_seed(self) -> int:
        """The seed of the training and of the test images."""
        return self.seed if self.trained is None else self.trained

    @property
    def name(self) -> str:
        """A path that no other cell has, whatever its model, target and category are called."""
        shots = [] if self.shots is None else [f"{self.shots}_shot"]
        category = [] if self.category is None else [self.category]
        names = map(path_component, [self.model, self.target, *category])
        return "/".join([*names, *shots, f"seed_{self.seed}"])


@dataclass
class Benchmark:
    """A grid of experiments.

    Args:
        models: Name to model.
        protocols: What is trained and tested on; every target has one name.
        seeds: Of training, of the choice of references, and of the test images of a dataset that has no split.
        train_batch_size: Images in a batch of the auxiliary dataset.
        eval_batch_size: Images in a batch of a target.
        num_workers: Processes that read images.
        launcher: How many cells run at a time, and where. No part of what they are: results count wherever they ran.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    models: dict[str, Entry]
    protocols: list[Protocol]
    seeds: list[int] = field(default_factory=lambda: [0])
    train_batch_size: int = 8
    eval_batch_size: int = 8
    num_workers: int = 2
    launcher: Launcher = field(default_factory=Launcher)

    def __post_init__(self) -> None:
        names = [name for protocol in self.protocols for name in protocol.targets]
        doubled = _doubled(names)
        if doubled or not names or not self.models or not self.seeds:
            msg = f"expected models, seeds and targets, each target once, got {', '.join(doubled) or 'none'}" + (
                " more than once" if doubled else " of one of them"
            )
            raise ValueError(msg)
        _check_each_once("seeds", self.seeds)
        self.models = {key: each for name, entry in self.models.items() for key, each in entry.by_epoch(name).items()}
        for name, entry in self.models.items():
            _check_each_once(f"shots of {name}", entry.shots)
            if "k_shot" in entry.init_args:
                msg = f"{name}: expected shots: [{entry.init_args['k_shot']}], got k_shot in init_args"
                raise ValueError(msg)
            if entry.draws is not None and (entry.draws < 1 or not entry.shots or len(self.seeds) > 1):
                msg = f"{name}: expected draws of 1 or more, with shots and one seed, got draws: {entry.draws}"
                raise ValueError(msg)
            self._check_members(name, entry)

    @property
    def plumbing(self) -> dict[str, Any]:
        """How a target is read."""
        return {"eval_batch_size": self.eval_batch_size, "num_workers": self.num_workers}

    def protocol_of(self, target: str) -> Protocol:
        """Find the protocol that tests on a target."""
        return next(each for each in self.protocols if target in each.targets)

    def is_zero_shot(self, model: str) -> bool:
        """Whether a model, with all its members, is trained on an auxiliary dataset."""
        return all(self.models[name].is_zero_shot for name in self.models[model].members or [model])

    def training_plumbing(self, cell: Cell) -> dict[str, Any]:
        """How the auxiliary dataset is read: as the model's entry says, else its own arguments, else the benchmark."""
        given = self.protocol_of(cell.target).auxiliary.init_args
        plumbing = {"train_batch_size": self.train_batch_size, **self.plumbing}
        chosen = {name: given.get(name, value) for name, value in plumbing.items()}
        own = self.models[cell.model].train_batch_size
        return chosen if own is None else {**chosen, "train_batch_size": own}

    def training_of(self, cell: Cell) -> str | None:
        """Name the training that a cell shares with others; None where it trains by itself, or needs none."""
        entry = self.models[cell.model]
        if entry.members or not entry.is_zero_shot or entry.init_args.get("weights") is not None:
            return None
        number = self.protocols.index(self.protocol_of(cell.target))
        name = path_component(entry.trained_as or cell.model)
        return f"{name}/protocol_{number}/seed_{cell.training_seed}"

    def member_of(self, cell: Cell, name: str) -> Cell:
        """Name the cell of a member that goes with an ensemble's: its own category, where it is tested by category."""
        entry = self.models[name]
        if entry.is_zero_shot:
            return replace(cell, model=name, category=None)
        return replace(cell, model=name, shots=next(iter(entry.shots), None))

    def cells(self) -> Iterator[Cell]:
        """Name every cell; those of one training follow each other."""
        for name, entry in self.models.items():
            for protocol in self.protocols:
                for seed in self.seeds:
                    for target in protocol.targets:
                        yield from self._cells(name, entry, target, seed)

    def fingerprint(self, cell: Cell) -> str:
        """Digest all that decides a cell's result: a cell finished with other settings is run again."""
        protocol, entry = self.protocol_of(cell.target), self.models[cell.model]
        members = [self.models[name] for name in entry.members]
        target = decisive(protocol.targets[cell.target])
        deciding: list[Any] = [asdict(cell), entry.class_path, entry.init_args, target, entry.epoch]
        deciding += [[each.class_path, each.init_args, each.shots] for each in members]
        for name in entry.members or [cell.model]:
            own = self.models[name]
            if own.is_zero_shot:
                size = self.training_plumbing(replace(cell, model=name))["train_batch_size"]
                deciding += [decisive(protocol.auxiliary), size]
            else:
                deciding += [own.train_batch_size, own.signed_scores]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()

    def _cells(self, name: str, entry: Entry, target: str, seed: int) -> Iterator[Cell]:
        categories: list[str | None] = [None]
        if not self.is_zero_shot(name):
            with suppress(OSError, ValueError):  # a missing dataset is reported by its cell
                categories = list(parts_of(self.protocol_of(target).targets[target].build(AnomalibDataModule)))
        references: list[int | None] = [*entry.shots] or [None]
        for category in categories:
            for shots in references:
                if entry.draws and shots:
                    for draw in range(entry.draws):
                        yield Cell(name, target, category, shots, draw, trained=seed)
                else:
                    yield Cell(name, target, category, shots, seed)

    def _check_members(self, name: str, entry: Entry) -> None:
        before = list(self.models)[: list(self.models).index(name)]
        known = [each for each in before if not self.models[each].members]
        unknown = [each for each in entry.members if each not in known]
        if unknown or (entry.members and entry.shots):
            found = f"the member {unknown[0]}" if unknown else f"shots {entry.shots}"
            msg = f"{name}: expected models named before it ({', '.join(known)}) as members and no shots, got {found}"
            raise ValueError(msg)


def _check_each_once(name: str, values: list[int]) -> None:
    if doubled := _doubled(values):
        msg = f"{name}: expected each once, got {', '.join(map(str, doubled))} more than once"
        raise ValueError(msg)


def _doubled(values: list[Any]) -> list[Any]:
    return sorted({value for value in values if values.count(value) > 1})


def decisive(datamodule: Spec) -> dict[str, Any]:
    """Leave out how images are read, which does not change the result."""
    own = {name: value for name, value in datamodule.init_args.items() if name not in PLUMBING}
    return {"class_path": datamodule.class_path, "init_args": own}


def build_model(entry: Entry, cell: Cell, **components: Any) -> AnomalibModule:
    """Build the model of a cell: with the cell's references and, where it takes one, the cell's seed."""
    takes = signature(entry.model_class).parameters
    own = {"seed": cell.seed} if "seed" in takes else {}
    if cell.shots is not None:
        own["k_shot"] = cell.shots
    model = entry.build(AnomalibModule, **own, **components)
    if isinstance(model, WinClip):
        attend_within_windows(model.model)
        model.class_name = model.class_name or cell.category
    return model
