"""anomalib's command line: arguments of a model are changed beside a checkpoint, and refusals are explained."""

from collections.abc import Callable, Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from anomalib_zsad.seam.log_lines import log_lines_once

SettingsFor = Callable[[str, Mapping[str, Any], Path], Mapping[str, Any]]
"""Gives the settings to change of the path of a model's class, its arguments, and a checkpoint."""

_instantiate = ArgumentParser.instantiate_classes
_error = ArgumentParser.error


def build_models_as_trained(settings_for: SettingsFor) -> None:
    """Let commands with `--ckpt_path` build a model as its checkpoint was trained.

    anomalib builds the model first and reads the checkpoint later, for which the weights of the default backbone would
    be needed, too.
    """
    ArgumentParser.instantiate_classes = partialmethod(_instantiate_as_trained, settings_for)  # type: ignore[assignment,method-assign]


def explain_refusals(explain: Callable[[str], str]) -> None:
    """Let a parser that refuses its arguments print another message, which is made of its own."""
    ArgumentParser.error = partialmethod(_error_explained, explain)  # type: ignore[assignment,method-assign]


def _instantiate_as_trained(
    parser: ArgumentParser, settings_for: SettingsFor, cfg: Namespace, *arguments: Any, **options: Any
) -> Namespace:
    log_lines_once()
    path, model = cfg.get("ckpt_path"), cfg.get("model")
    if path is not None and hasattr(model, "class_path"):
        cfg = cfg.clone()
        for setting, value in settings_for(model.class_path, vars(model.init_args), Path(path)).items():
            cfg.model.init_args[setting] = value
    return _instantiate(parser, cfg, *arguments, **options)


def _error_explained(
    parser: ArgumentParser, explain: Callable[[str], str], message: str, ex: Exception | None = None
) -> NoReturn:
    _error(parser, explain(message), ex)
