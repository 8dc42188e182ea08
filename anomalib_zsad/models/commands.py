"""Arguments of a model in anomalib's command line: settings of a checkpoint, former names."""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from anomalib_zsad.arguments import choices_of, new_place
from anomalib_zsad.models.parts import settings
from anomalib_zsad.models.parts.adapter_file import load_adapter
from anomalib_zsad.models.parts.checkpoint import check_readable
from anomalib_zsad.models.parts.record import KEY, from_checkpoint

_MODELS = "anomalib_zsad.models"


def settings_beside(class_path: str, given: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return the settings of a checkpoint that replace defaults of a model of this package.

    Args:
        class_path: The path of a model's class; for another one nothing is changed.
        given: Its arguments, those at their defaults included.
        checkpoint: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or is of another model.
    """
    kind = _model_at(class_path)
    if kind is None:
        return {}
    given = {name: vars(value) if isinstance(value, Namespace) else value for name, value in given.items()}
    record, what = from_checkpoint(check_readable(checkpoint), kind.__name__), f"the checkpoint {checkpoint}"
    return settings.take(kind, given, record, what)


def method_in(path: Path) -> str:
    """Name the class of the model that a checkpoint (.ckpt) or an adapter file (.safetensors) is of.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of no model of this package.
    """
    if path.suffix == ".safetensors":
        found: Any = load_adapter(path)[1]["method"]
    else:
        record = check_readable(path).get(KEY)
        found = record.get("method") if isinstance(record, Mapping) else None
    known = import_module(_MODELS).__all__
    if found not in known:
        msg = f"{path}: expected a checkpoint or an adapter file of {', '.join(known)}, got one of {found}"
        raise ValueError(msg)
    return found


def with_new_place(message: str) -> str:
    """Add the present name to the message about a former argument of a model."""
    kind = _model_at(next(iter(re.findall(r"class_path '([\w.]+)'", message)), ""))
    choices = None if kind is None else choices_of(kind.__init__)
    options = re.findall(r"Option '(\w+)' is not accepted", message)
    places = [place for name in options if choices is not None and (place := new_place(choices, name))]
    return f"{message}\n{places[0]}" if places else message


def _model_at(class_path: str) -> Any:
    package, _, name = class_path.rpartition(".")
    models = import_module(_MODELS)
    ours = package.split(".")[0] == _MODELS.split(".")[0] and name in models.__all__
    return getattr(models, name) if ours else None
