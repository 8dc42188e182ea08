"""anomalib's export with a checkpoint: of the model that it is given, as in testing and predicting."""

from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

from anomalib.engine import Engine

from anomalib_zsad.models.parts.mixin import ZeroShotMixin

_export = Engine.export


@wraps(_export)
def _export_given(*arguments: Any, **options: Any) -> Path | None:
    call = signature(_export).bind(*arguments, **options)
    model, path = call.arguments["model"], call.arguments.get("ckpt_path")
    if path and isinstance(model, ZeroShotMixin):
        model.load_checkpoint(path)
        call.arguments["ckpt_path"] = None
    return _export(*call.args, **call.kwargs)


def export_the_given_model() -> None:
    """Let `Engine.export` load a checkpoint into the model it is given, with all that was chosen for it.

    anomalib builds another one of the checkpoint alone, which would be without references, thresholds and settings
    that the command names.
    """
    Engine.export = _export_given  # type: ignore[method-assign]
