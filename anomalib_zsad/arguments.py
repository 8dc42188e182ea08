"""What arguments may be: types with their ranges, written once in a signature, and the check of them before a call."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from annotated_types import GroupedMetadata, Interval, MinLen, Predicate
from omegaconf import OmegaConf
from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError

F = TypeVar("F", bound=Callable[..., Any])

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


class Range(Interval):
    """The numbers that an argument may be."""

    def __repr__(self) -> str:
        low = f"({self.gt}" if self.ge is None else f"[{self.ge}"
        high = f"{self.lt})" if self.le is None else f"{self.le}]"
        return f"in {low}, {high}"


class Odd(Range):
    """The odd ones of them."""

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield Predicate(lambda value: value % 2 == 1)

    def __repr__(self) -> str:
        return f"{super().__repr__()} that is odd"


class NotEmpty(GroupedMetadata):
    """A text or a list with something in it."""

    def __iter__(self) -> Iterator[Any]:
        yield MinLen(1)

    def __repr__(self) -> str:
        return "that is not empty"


class Placeholder(GroupedMetadata):
    """A text with a place for another one."""

    def __iter__(self) -> Iterator[Any]:
        yield Predicate(lambda text: sorted(filter("{}".__contains__, text)) == ["{", "}"] and "{}" in text)

    def __repr__(self) -> str:
        return "with one {}"


class ListOrTuple(GroupedMetadata):
    """A tuple that files write as a list."""

    def __iter__(self) -> Iterator[Any]:
        yield Strict(strict=False)

    def __repr__(self) -> str:
        return ""


class _Unsaid:
    def __repr__(self) -> str:
        return ""


_OF_RUN, _OF_MACHINE = _Unsaid(), _Unsaid()
T = TypeVar("T")
OfRun = Annotated[T, _OF_RUN]
"""An argument of a model that no score of trained weights depends on: it does not travel with them."""
OfMachine = Annotated[T, _OF_RUN, _OF_MACHINE]
"""One of them about how this machine computes: a checkpoint does not bring it to another one either."""


@dataclass(frozen=True)
class Choices:
    """What the paper of a method leaves open: one frozen dataclass a method, the argument `choices` of its model.

    Fields are checked as arguments are. A mapping of some of them is taken too: `choices={"map_norm": "minmax"}`.

    Raises:
        ValueError: If a field is of another type or out of its range.
    """

    removed: ClassVar[Mapping[str, object]] = {}
    """Former arguments of the model that no longer exist, with the only value that is left of them."""

    def __post_init__(self) -> None:
        for name, (hint, adapter) in _fields(type(self)).items():
            value = _check(f"choices.{name}", _plain(getattr(self, name)), hint, adapter)
            object.__setattr__(self, name, value)


Count = Annotated[int, Range(ge=1, le=1024)]
CountOrNone = Annotated[int, Range(ge=0, le=1024)]
"""A count that may be 0."""
Epochs = Annotated[int, Range(ge=1, le=1_000_000)]
Images = Annotated[int, Range(ge=1, le=1_000_000)]
ImagesOrNone = Annotated[int, Range(ge=0, le=1_000_000)]
"""A number of images that may be 0."""
Shots = Annotated[Sequence[ImagesOrNone], NotEmpty()]
Width = Annotated[int, Range(ge=1, le=16384)]
"""Channels of a layer."""
Side = Annotated[int, Range(ge=1, le=8192)]
"""Pixels or patches."""
OddSide = Annotated[int, Odd(ge=1, le=1023)]
ImageSize = Side | Annotated[tuple[Side, Side], ListOrTuple()]
"""Height and width in pixels, one number where they are the same."""
Layers = Annotated[Sequence[Count], NotEmpty()]
Seed = Annotated[int, Range(ge=0, le=2**31 - 1)]

Share = Annotated[float, Range(ge=0, le=1)]
ShareBelowOne = Annotated[float, Range(ge=0, lt=1)]
ShareInside = Annotated[float, Range(gt=0, lt=1)]
Weight = Annotated[float, Range(ge=0, le=1000)]
"""A factor of a term."""
Exponent = Annotated[float, Range(ge=0, le=100)]
Positive = Annotated[float, Range(ge=1e-6, le=1e6)]
Temperature = Annotated[float, Range(ge=1e-3, le=1000)]
Overlap = Annotated[float, Range(ge=0, le=0.9)]
"""The share of a window that its neighbour covers, too."""
Sigma = Annotated[float, Range(ge=0, le=1000)]
"""A standard deviation in pixels; 0 for no blur."""
PositiveSigma = Annotated[float, Range(ge=0.01, le=1000)]
Rate = Annotated[float, Range(gt=0, le=1)]
"""A learning rate, or a factor on it."""
Betas = Annotated[tuple[ShareBelowOne, ShareBelowOne], ListOrTuple()]
"""Of Adam."""

Text = Annotated[str, NotEmpty()]
TextPair = Annotated[tuple[Text, Text], ListOrTuple()]
Texts = Annotated[Sequence[Text], NotEmpty()]
Templates = Annotated[Sequence[Annotated[str, Placeholder()]], NotEmpty()]
OddSides = Annotated[Sequence[OddSide], NotEmpty()]

_NOUNS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "a text",
    bool: "True or False",
    type(None): "None",
    Path: "a path",
    dict: "a mapping",
}


def checked(function: F) -> F:
    """Check all annotated arguments of a function before its first line runs.

    Types are taken strictly: neither a text nor True is a number; a whole number is. NaN and infinity are refused.

    Raises:
        ValueError: From the function: if an argument is of another type or out of its range.
    """
    parameters = inspect.signature(function)

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        _refuse_moved(call, {name: value for name, value in named.items() if name not in parameters.parameters})
        bound = parameters.bind(*values, **named)
        given = {name: _plain(value) for name, value in bound.arguments.items()}
        bound.arguments.update(check_arguments(call, given))
        return function(*bound.args, **bound.kwargs)

    return cast("F", call)


def check_arguments(function: Callable[..., Any], given: Mapping[str, object]) -> dict[str, Any]:
    """Check values, such as those of a file, by the types and ranges that a function's signature has for their names.

    Returns:
        The values: whole numbers as floats and lists as tuples where the signature has these.

    Raises:
        ValueError: If one is of another type or out of its range.
    """
    known = _adapters(function)
    return {name: _check(name, value, *known[name]) if name in known else value for name, value in given.items()}


def of_runs(function: Callable[..., Any]) -> set[str]:
    """Name the arguments of a function that are marked with `OfRun`."""
    return _marked(function, _OF_RUN)


def of_machines(function: Callable[..., Any]) -> set[str]:
    """Name the arguments of a function that are marked with `OfMachine`."""
    return _marked(function, _OF_MACHINE)


def choices_of(function: Callable[..., Any]) -> type[Choices] | None:
    """Find the class of the argument `choices`, where a function has one."""
    if "choices" not in inspect.signature(function).parameters:
        return None
    hint, _ = _adapters(function)["choices"]
    return hint if _is_choices(hint) else None


def new_place(kind: type[Choices], name: str) -> str | None:
    """Return what is expected in place of a former argument of a model that is now a choice or gone.

    Returns:
        Words; None where the name is neither.
    """
    if name in _fields(kind):
        written = f"--model.choices.{name} or, in a file, choices: {{{name}: ...}}"
        return f"{name} is one of the choices: expected choices={kind.__name__}({name}=...), {written}"
    if name in kind.removed:
        return f"{name} no longer exists: expected none, {kind.removed[name]!r} is always used"
    return None


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Check that an argument is one of a few values.

    Raises:
        ValueError: If it is another.
    """
    if value not in choices:
        msg = f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}"
        raise ValueError(msg)


def _marked(function: Callable[..., Any], mark: _Unsaid) -> set[str]:
    hints = get_type_hints(function, include_extras=True).items()
    return {name for name, hint in hints if get_origin(hint) is Annotated and mark in get_args(hint)}


@cache
def _adapters(function: Callable[..., Any]) -> dict[str, tuple[Any, TypeAdapter[Any]]]:
    hints = get_type_hints(function, include_extras=True).items()
    named = ((name, hint) for name, hint in hints if name not in {"return", "removed"} and hint is not Any)
    return {name: (hint, TypeAdapter(Any if _is_choices(hint) else hint, config=_STRICT)) for name, hint in named}


def _fields(kind: type[Choices]) -> dict[str, tuple[Any, TypeAdapter[Any]]]:
    return _adapters(cast("Any", kind))


def _is_choices(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Choices)


def _plain(value: Any) -> Any:
    """Make Python's own list or mapping of one of OmegaConf, which anomalib's get_model and get_datamodule pass."""
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _refuse_moved(function: Callable[..., Any], unknown: Mapping[str, object]) -> None:
    kind = choices_of(function) if unknown else None
    for name, value in unknown.items():
        if kind is not None and (expected := new_place(kind, name)):
            msg = f"{expected}, got {name}={value!r:.200}"
            raise ValueError(msg)


def _choices(name: str, kind: type[Choices], value: object) -> Choices:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        msg = f"{name} must be a {kind.__name__} or a mapping of its fields, got {value!r:.200}"
        raise ValueError(msg)
    if unknown := sorted(map(str, value.keys() - _fields(kind).keys())):
        msg = f"{name} must be those of {kind.__name__} ({', '.join(_fields(kind))}), got {', '.join(unknown)}"
        raise ValueError(msg)
    return kind(**value)


def _check(name: str, value: object, hint: Any, adapter: TypeAdapter[Any]) -> Any:
    if _is_choices(hint):
        return _choices(name, hint, value)
    try:
        return adapter.validate_python(value)
    except ValidationError:
        msg = f"{name} must be {_words(hint)}, got {value!r:.200}"
        raise ValueError(msg) from None


def _words(hint: Any) -> str:
    """Describe a type in words."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        whole, each, item = _words(parts[0]).partition(", each ")
        return " ".join(filter(None, (whole, *map(repr, parts[1:])))) + each + item
    if kind is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if kind in {Union, UnionType}:
        return " or ".join(map(_words, parts))
    if kind is tuple:
        return f"a pair, each {_words(parts[0])}"
    if kind is not None and issubclass(kind, Sequence):
        return f"a list, each {_words(parts[0])}"
    return _NOUNS.get(kind or hint) or str(getattr(kind or hint, "__name__", hint))
