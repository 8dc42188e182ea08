"""anomalib's command line with a checkpoint: the model is built with the settings of its record."""

import logging
from functools import wraps
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from anomalib_zsad import models
from anomalib_zsad.models.parts import settings
from anomalib_zsad.models.parts.checkpoint import check_readable
from anomalib_zsad.models.parts.record import from_checkpoint

logger = logging.getLogger(__name__)

_instantiate = ArgumentParser.instantiate_classes


@wraps(_instantiate)
def _instantiate_as_trained(parser: ArgumentParser, cfg: Namespace, *arguments: Any, **options: Any) -> Namespace:
    return _instantiate(parser, _as_trained(cfg), *arguments, **options)


def bring_settings_of_checkpoint() -> None:
    """Let commands with `--ckpt_path` build a model of this package as the checkpoint was trained.

    anomalib builds the model first and reads the checkpoint later, for which the weights of the default backbone would
    be needed, too.
    """
    ArgumentParser.instantiate_classes = _instantiate_as_trained  # type: ignore[assignment,method-assign]


def _as_trained(cfg: Namespace) -> Namespace:
    """Put the settings of the checkpoint into the arguments of the model that are at their defaults."""
    path, model = cfg.get("ckpt_path"), cfg.get("model")
    package, _, name = str(getattr(model, "class_path", "")).rpartition(".")
    if path is None or package.split(".")[0] != models.__name__.split(".")[0] or name not in models.__all__:
        return cfg
    kind = getattr(models, name)
    record, what = from_checkpoint(check_readable(Path(path)), name), f"the checkpoint {path}"
    given = vars(model.init_args)
    taken = settings.differing(settings.joined(kind, settings.chosen(kind, given), record, what), given)
    if taken:
        settings.tell(taken, what)
    cfg = cfg.clone()
    cfg.model.init_args.update(Namespace(**taken))
    return cfg
