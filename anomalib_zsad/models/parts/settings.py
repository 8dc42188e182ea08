"""The settings of a model: what it was given, and what the record of its weights says."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

from anomalib_zsad.arguments import check_arguments
from anomalib_zsad.clip.weights import names_a_file
from anomalib_zsad.data.names import read_class_words
from anomalib_zsad.models.parts.record import Record

logger = logging.getLogger(__name__)


def settings_of(model: Any) -> dict[str, Any]:
    """Give the arguments of a model that change a score, as plain data that needs no other file."""
    settings = {name: _plain(value) for name, value in model.hparams.items() if name not in model.run_arguments}
    if isinstance(settings.get("class_names"), str):
        settings["class_names"] = read_class_words(settings["class_names"])
    return settings


def chosen(
    kind: Any,  # the class of a model
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Give the arguments that are not at their defaults; a command line does not tell more."""
    defaults = _defaults(kind)
    return {name: value for name, value in arguments.items() if name not in defaults or _differ(value, defaults[name])}


def joined(
    kind: Any,  # the class of a model
    given: Mapping[str, Any],
    record: Record,
    what: str,
) -> dict[str, Any]:
    """Join what is given with the settings of a record, which count where nothing else is given.

    Args:
        kind: The class of the model.
        given: Arguments.
        record: Of a checkpoint or an adapter file.
        what: Names it in messages.

    Raises:
        ValueError: If the record has settings that the model does not have or that are out of range, or names a file
            with the weights of the backbone, which is read only where it is given.
    """
    defaults = _defaults(kind)
    saved = {name: value for name, value in record["settings"].items() if name not in kind.run_arguments}
    if unknown := sorted(saved.keys() - defaults.keys()):
        msg = (
            f"{what} has settings that {kind.__name__} does not have: {', '.join(unknown)}; it was written by version "
            f"{record['version']} of anomalib_zsad"
        )
        raise ValueError(msg)
    if "backbone" in given:
        saved.pop("pretrained", None)
    taken = {name: _like(defaults[name], value) for name, value in saved.items() if name not in given}
    try:
        taken = check_arguments(kind.__init__, taken)
    except ValueError as error:
        msg = f"{what}: {error}"
        raise ValueError(msg) from error
    if (file := taken.get("pretrained")) is not None and names_a_file(file):
        msg = (
            f"{what} was trained over the weights of CLIP in {file}, a file that is read only if you name it: pass "
            f"--model.pretrained {file} (in Python pretrained=...)"
        )
        raise ValueError(msg)
    return {**taken, **given}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Give what one mapping has otherwise than another, however the values are written."""
    return {name: value for name, value in one.items() if name not in other or _differ(value, other[name])}


def tell(taken: Mapping[str, Any], what: str) -> None:
    """Log which settings come from a record."""
    logger.info("Settings of %s are used: %s.", what, ", ".join(f"{n}={short(v)}" for n, v in taken.items()))


def warn_of_others(kind: Any, given: Mapping[str, Any], record: Record, what: str) -> None:
    """Warn, once, of arguments that differ from the settings of a record; the backbone is checked by its weights."""
    compared = given.keys() & record["settings"].keys() - kind.run_arguments - {"backbone", "pretrained"}
    others = differing({name: given[name] for name in sorted(compared)}, record["settings"])
    if others:
        told = ", ".join(f"{name}={value!r} (not {record['settings'][name]!r})" for name, value in others.items())
        logger.warning("Used otherwise than %s was trained: %s.", what, told)


def _defaults(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _differ(one: Any, other: Any) -> bool:
    return _plain(one) != _plain(other)


def _like(default: Any, value: Any) -> Any:
    return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Make a list of a tuple and a string of a path: a command line and a record write them differently."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
