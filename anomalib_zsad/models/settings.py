"""The settings of a checkpoint: what was trained with them scores with them, whatever loads it."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomalib.engine import Engine
from lightning.pytorch import LightningModule

logger = logging.getLogger(__name__)

_OF_A_RUN = {
    *("backbone", "pretrained", "weights", "k_shot", "reference"),
    *("cache_features", "cache_dtype", "epochs", "precision", "seed"),
}
"""Arguments that are no settings of what was trained, or that are checked by themselves."""
_COMPONENTS = ("pre_processor", "post_processor", "evaluator", "visualizer")


def chosen(model: Any) -> dict[str, Any]:
    """Give the arguments of a model that are not their defaults."""
    defaults = _defaults(model)
    return {name: value for name, value in model.hparams.items() if _differ(value, defaults.get(name))}


def adopt(model: Any, saved: Mapping[str, Any]) -> None:
    """Bring a model to the settings of a checkpoint, but for those that were chosen otherwise.

    Lightning loads a checkpoint into a model as it is; `anomalib test` and `anomalib predict` build one from what the
    command says. A setting without weights of its own, such as a scale, would be lost without a word.

    Args:
        model: A model of this package.
        saved: The arguments of the model that the checkpoint was made from.
    """
    defaults, own = _defaults(model), chosen(model)
    differing = {
        name: value
        for name, value in saved.items()
        if name in defaults and name not in _OF_A_RUN and _differ(value, model.hparams[name])
    }
    for name in own.keys() & differing.keys() - {"image_size"}:  # of that it is told elsewhere
        logger.warning("%s=%r is used, the checkpoint was trained with %r.", name, own[name], differing[name])
    adopted = {name: value for name, value in differing.items() if name not in own}
    if not adopted:
        return
    told = ", ".join(f"{name}={value!r}" for name, value in adopted.items())
    logger.info("Settings of the checkpoint are used: %s.", told)
    rebuilt = type(model)(**{**model.hparams, **adopted}, **dict.fromkeys(_COMPONENTS, False))
    model.hparams.update(adopted)
    model.model, model.loss = rebuilt.model.to(model.device), rebuilt.loss
    common = {*vars(LightningModule()), *_COMPONENTS, "trained_on"}
    own_attributes = {name: value for name, value in vars(rebuilt).items() if name not in common and name[0] != "_"}
    model.__dict__.update(own_attributes)


def given_to_export(kind: type) -> Any:
    """Find the model of a kind that anomalib's export is running with; None outside of an export.

    With a checkpoint, that loads a new model from it and drops the one that the command line has built with its
    arguments.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not Engine.export.__code__:
        frame = frame.f_back
    given = None if frame is None else frame.f_locals.get("model")
    return given if type(given) is kind else None


def _defaults(model: Any) -> dict[str, Any]:
    parameters = inspect.signature(type(model).__init__).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _differ(one: Any, other: Any) -> bool:
    return _plain(one) != _plain(other)


def _plain(value: Any) -> Any:
    """Make a list of a tuple and a string of a path: a command line and a checkpoint write them differently."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
