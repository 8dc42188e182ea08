"""The settings of a model: its arguments, joined and compared with those of the record of its weights.

Each field of the argument `choices` is a setting of its own here, such as `choices.map_norm`, so that one choice can
override that of a record.
"""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any

from anomalib_zsad import arguments as arg
from anomalib_zsad._version import __version__
from anomalib_zsad.clip.weights import names_a_file
from anomalib_zsad.data.names import read_class_words
from anomalib_zsad.models.parts.record import Record

logger = logging.getLogger(__name__)

_CHOICES = "choices."


def settings_of(model: Any) -> dict[str, Any]:
    """Return the arguments of a model that change a score, as plain data that needs no other file."""
    others = arg.of_runs(type(model).__init__)
    settings = {name: _plain(value) for name, value in model.hparams.items() if name not in others}
    if isinstance(settings.get("class_names"), str):
        settings["class_names"] = read_class_words(settings["class_names"])
    return settings


def without_folder(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce the path of a file with the weights of CLIP, where entries have one, to its name."""
    file = entries.get("pretrained")
    if file is None or not names_a_file(file):
        return dict(entries)
    return {**entries, "pretrained": Path(file).name}


def flat(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the argument `choices` by one entry for each choice, `choices.NAME`."""
    choices = _plain(arguments.get("choices"))
    if not isinstance(choices, Mapping):
        return dict(arguments)
    others = {name: value for name, value in arguments.items() if name != "choices"}
    return {**others, **{f"{_CHOICES}{name}": value for name, value in choices.items()}}


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `flat`: collect the choices in one mapping."""
    others = {name: value for name, value in settings.items() if not name.startswith(_CHOICES)}
    choices = {n.removeprefix(_CHOICES): value for n, value in settings.items() if n.startswith(_CHOICES)}
    return {**others, "choices": choices} if choices else others


def up_to_date(
    kind: Any,  # the class of a model
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Rename arguments that an earlier version wrote, when choices were arguments of their own.

    Returns:
        Settings. Removed ones are dropped if they had the value that is now fixed.
    """
    choices = arg.choices_of(kind.__init__)
    if choices is None:
        return dict(arguments)
    names = {name.removeprefix(_CHOICES) for name in _defaults(kind) if name.startswith(_CHOICES)}
    gone = {name for name, value in choices.removed.items() if not _differ(arguments.get(name, value), value)}
    settings = {f"{_CHOICES}{name}" if name in names else name: value for name, value in flat(arguments).items()}
    return {name: value for name, value in settings.items() if name not in gone}


def chosen(
    kind: Any,  # the class of a model
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the settings that are not at their defaults: a command line does not show which ones the user named."""
    return differing(arguments, _defaults(kind))


def joined(
    kind: Any,  # the class of a model
    given: Mapping[str, Any],
    record: Record,
    what: str,
) -> dict[str, Any]:
    """Join given arguments with the settings of a record; the arguments take precedence.

    Args:
        kind: The class of the model.
        given: Arguments, or settings.
        record: Of a checkpoint or an adapter file.
        what: The origin of the record, for messages.

    Returns:
        Settings.

    Raises:
        ValueError: If the record has settings that the model does not have or that are out of range, or names a file
            with the weights of the backbone, which is read only where it is given.
    """
    given, defaults = flat(given), _defaults(kind)
    saved = _saved(kind, record)
    if unknown := sorted(saved.keys() - defaults.keys()):
        msg = (
            f"{what} has settings that {kind.__name__} does not have: {', '.join(unknown)}; it was written by version "
            f"{record['version']} of anomalib_zsad, and this is {__version__}: install that version, or train again"
        )
        raise ValueError(msg)
    if "backbone" in given:
        saved.pop("pretrained", None)
    if given.get("tile") is not None and saved.get("tile") is None:
        saved.pop("image_size", None)  # what the model looked at, as it now looks at a tile
    taken = {name: _like(defaults[name], value) for name, value in saved.items() if name not in given}
    try:
        taken = flat(arg.check_arguments(kind.__init__, nested(taken)))
    except ValueError as error:
        msg = f"{what}: {error}"
        raise ValueError(msg) from error
    taken = {name: value for name, value in taken.items() if name in saved}
    if (file := taken.get("pretrained")) is not None and names_a_file(file):
        msg = (
            f"{what} was trained over the weights of CLIP in {file}, a file that is read only if you name it: pass "
            f"--model.pretrained {file} (in Python pretrained=...)"
        )
        raise ValueError(msg)
    return {**taken, **given}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of one mapping that another lacks or has with another value, as plain data."""
    other = flat(other)
    return {name: value for name, value in flat(one).items() if name not in other or _differ(value, other[name])}


def take(
    kind: Any,  # the class of a model
    current: Mapping[str, Any],
    record: Record,
    what: str,
) -> dict[str, Any]:
    """Return the settings of a record that replace defaults, and log them.

    Args:
        kind: The class of the model.
        current: All arguments of a model.
        record: Of a checkpoint or an adapter file.
        what: The origin of the record, for messages.

    Raises:
        ValueError: As `joined`.
    """
    taken = differing(joined(kind, chosen(kind, current), record, what), current)
    if taken:
        logger.info("Settings of %s are used: %s.", what, ", ".join(f"{n}={short(v)}" for n, v in taken.items()))
    return taken


def of_runs(
    kind: Any,  # the class of a model
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the arguments of a model that change no score, such as those of its training; none of the machine."""
    settings, kept = up_to_date(kind, arguments), arg.of_runs(kind.__init__) - arg.of_machines(kind.__init__)
    return {name: settings[name] for name in settings.keys() & kept}


def warn_of_others(kind: Any, given: Mapping[str, Any], record: Record, what: str) -> None:
    """Warn once of arguments that override settings of a record; the backbone is checked by its weights."""
    given, saved = flat(given), _saved(kind, record)
    compared = given.keys() & saved.keys() - {"backbone", "pretrained"}
    others = differing({name: given[name] for name in sorted(compared)}, saved)
    if others:
        overridden = ", ".join(f"{name}={value!r} (not {saved[name]!r})" for name, value in others.items())
        logger.warning("Used otherwise than %s was trained: %s.", what, overridden)


def _saved(kind: Any, record: Record) -> dict[str, Any]:
    settings, others = up_to_date(kind, record["settings"]), arg.of_runs(kind.__init__)
    return {name: value for name, value in settings.items() if name not in others}


def _defaults(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return flat({each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty})


def _differ(one: Any, other: Any) -> bool:
    return _plain(one) != _plain(other)


def _like(default: Any, value: Any) -> Any:
    return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Convert to plain data: tuples to lists, paths to strings, choices to a mapping."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
