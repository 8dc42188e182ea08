"""What the configuration of a benchmark names: classes with their arguments, models, and what they are tested on."""

from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from typing import Any, ClassVar

from anomalib.models import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import import_object
from pydantic import ConfigDict

from anomalib_zsad.models.parts.detector import Detector

STRICT = ConfigDict(extra="forbid")
"""No other names than those of the fields."""


@dataclass
class Spec:
    """A class and its arguments, as in every configuration of anomalib."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)

    def build(self, kind: type, **more: Any) -> Any:
        """Build it; arguments given here override those of the configuration.

        Args:
            kind: What it must be.
            **more: Arguments.

        Raises:
            ValueError: If the class is unknown, of another kind, or does not take the arguments.
        """
        parser, parsed = self._parsed(kind, more)
        return parser.instantiate_classes(parsed).it

    def check(self, kind: type, **more: Any) -> None:
        """Check what can be checked before it is built.

        Raises:
            ValueError: As when it is built.
        """
        self._parsed(kind, more)

    def _parsed(self, kind: type, more: dict[str, Any]) -> tuple[ArgumentParser, Namespace]:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--it", type=kind)
        wanted = {"class_path": self.class_path, "init_args": {**self.init_args, **more}}
        try:
            return parser, parser.parse_object({"it": wanted})
        except (ArgumentError, ImportError, AttributeError) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            known = ('Parser key "it"', "Problem with given class_path")
            reason = " ".join(line for line in lines if not line.startswith(known))
            msg = f"{self.class_path}: expected an {kind.__name__} and its arguments, but: {reason}"
            raise ValueError(msg) from error


@dataclass
class Entry(Spec):
    """A model of the benchmark.

    Args:
        class_path: The model's class.
        init_args: Its arguments.
        shots: Numbers of references to test it with (its `k_shot`). Empty: the argument is left alone.
        draws: How many times references are drawn for each of these numbers, over one training. None: once a seed.
        every_epoch: Keep the checkpoint of every epoch and test each, in a row of its own, as ACD-CLIP's authors do.
        train_batch_size: Images in a training batch. None: that of the benchmark for a model that is trained on an
            auxiliary dataset, anomalib's 32 for others.
        variant: The row of the paper's tables that it is compared with, such as "N=4" or a step of an ablation. None:
            every row of its method that is no ablation.
        signed_scores: Whether one of anomalib's models gives scores below 0, as FastFlow does.
        members: Of an `Ensemble`: names of models before it. Their trainings are used, those of this package without
            references.
        trained_as: Of one of every epoch: the name that the training has.
        epoch: Likewise: which one, counted from 1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    shots: list[int] = field(default_factory=list)
    draws: int | None = None
    every_epoch: bool = False
    train_batch_size: int | None = None
    variant: str | None = None
    signed_scores: bool = False
    members: list[str] = field(default_factory=list)
    trained_as: str | None = None
    epoch: int | None = None

    def check(self, kind: type, **more: Any) -> None:
        """Check what can be checked before it is built, and the path, since a bare name does not find the class."""
        _ = self.model_class
        super().check(kind, **more)

    @property
    def model_class(self) -> type[AnomalibModule]:
        """The model's class.

        Raises:
            ValueError: If there is none of that path.
        """
        try:
            found = import_object(self.class_path)
        except (ImportError, AttributeError, ValueError) as error:
            msg = f"{self.class_path}: expected the path of a model's class, but {error}"
            raise ValueError(msg) from error
        if not (isinstance(found, type) and issubclass(found, AnomalibModule)):
            msg = f"{self.class_path}: expected the path of a model's class, got {found!r}"
            raise ValueError(msg)
        return found

    @property
    def is_zero_shot(self) -> bool:
        """Whether it is trained on an auxiliary dataset, not on the normal images of every category."""
        return issubclass(self.model_class, Detector)

    def by_epoch(self, name: str) -> dict[str, "Entry"]:
        """Name an entry for every epoch of its training; itself where that is not configured.

        Raises:
            ValueError: If nothing is trained for epochs that are known.
        """
        if not self.every_epoch:
            return {name: self}
        default = signature(self.model_class).parameters.get("epochs")
        epochs = self.init_args.get("epochs", default.default if default else None)
        if not self.is_zero_shot or not isinstance(epochs, int) or self.init_args.get("weights") is not None:
            msg = f"{name}: expected every_epoch of a model of this package that is trained, got {self.class_path}"
            raise ValueError(msg)
        own = partial(replace, self, every_epoch=False, trained_as=name)
        return {f"{name}, epoch {number}": own(epoch=number) for number in range(1, epochs + 1)}


@dataclass
class Protocol:
    """The auxiliary dataset of the models of this package, and the targets of all models.

    Args:
        auxiliary: A datamodule; one that holds a single role is wrapped in `Auxiliary`.
        targets: Name to datamodule: all its categories are tested.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    auxiliary: Spec
    targets: dict[str, Spec]
