"""anomalib's command line: a checkpoint brings the settings of its record; a former argument is told its new place."""

import logging
import re
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from anomalib_zsad import models
from anomalib_zsad.arguments import choices_of, new_place
from anomalib_zsad.models.parts import settings
from anomalib_zsad.models.parts.checkpoint import check_readable
from anomalib_zsad.models.parts.record import from_checkpoint

logger = logging.getLogger(__name__)

_instantiate = ArgumentParser.instantiate_classes
_error = ArgumentParser.error


@wraps(_instantiate)
def _instantiate_as_trained(parser: ArgumentParser, cfg: Namespace, *arguments: Any, **options: Any) -> Namespace:
    return _instantiate(parser, _as_trained(cfg), *arguments, **options)


def bring_settings_of_checkpoint() -> None:
    """Let commands with `--ckpt_path` build a model of this package as the checkpoint was trained.

    anomalib builds the model first and reads the checkpoint later, for which the weights of the default backbone would
    be needed, too.
    """
    ArgumentParser.instantiate_classes = _instantiate_as_trained  # type: ignore[assignment,method-assign]


@wraps(_error)
def _error_with_new_place(parser: ArgumentParser, message: str, ex: Exception | None = None) -> NoReturn:
    _error(parser, _with_new_place(message), ex)


def name_new_places() -> None:
    """Let a parser that does not accept a former argument of a model say where it is now."""
    ArgumentParser.error = _error_with_new_place  # type: ignore[assignment,method-assign]


def _with_new_place(message: str) -> str:
    kind = _model_at(next(iter(re.findall(r"class_path '([\w.]+)'", message)), ""))
    choices = None if kind is None else choices_of(kind.__init__)
    options = re.findall(r"Option '(\w+)' is not accepted", message)
    told = [place for name in options if choices is not None and (place := new_place(choices, name))]
    return f"{message}\n{told[0]}" if told else message


def _model_at(path: str) -> Any:
    package, _, name = path.rpartition(".")
    ours = package.split(".")[0] == models.__name__.split(".")[0] and name in models.__all__
    return getattr(models, name) if ours else None


def _as_trained(cfg: Namespace) -> Namespace:
    """Put the settings of the checkpoint into the arguments of the model that are at their defaults."""
    path, model = cfg.get("ckpt_path"), cfg.get("model")
    kind = _model_at(str(getattr(model, "class_path", "")))
    if path is None or kind is None:
        return cfg
    record, what = from_checkpoint(check_readable(Path(path)), kind.__name__), f"the checkpoint {path}"
    given = dict(vars(model.init_args))
    if isinstance(given.get("choices"), Namespace):
        given["choices"] = vars(given["choices"])
    taken = settings.differing(settings.joined(kind, settings.chosen(kind, given), record, what), given)
    if taken:
        settings.tell(taken, what)
    cfg = cfg.clone()
    for setting, value in taken.items():
        cfg.model.init_args[setting] = value
    return cfg
