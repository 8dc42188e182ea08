"""The record of a model: plain data about what was learnt, alike in a checkpoint and in an adapter file.

| entry | content |
|---|---|
| method | the class of the model |
| version | of this package |
| settings | the arguments that change a score, by name |
| backbone | the identity of the frozen CLIP (`FrozenClip.identity`); None: not known |
| trained_on | "dataset/category" of the training data |
| thresholds | image and pixel, raw or None, what they were `fitted_on`, and the options of the post-processor |

A model may add entries of its own (`Persistence.record`).
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from anomalib_zsad import arguments as arg
from anomalib_zsad._version import __version__

Record = dict[str, Any]

KEY = "anomalib_zsad"
"""The entry of a checkpoint that holds the record."""
_METADATA_KEY = "record"
_UNKNOWN = ["unknown"]


class _Thresholds(BaseModel, extra="allow"):
    image: arg.Share | None = None
    pixel: arg.Share | None = None
    fitted_on: list[str] = []
    options: dict[str, Any] = {}


class _Backbone(BaseModel, extra="allow"):
    fingerprint: str = ""
    backbone: str | None = None
    pretrained: str | None = None


class _Record(BaseModel, extra="allow"):
    method: str
    version: str
    settings: dict[str, Any]
    backbone: _Backbone | None
    trained_on: list[str]
    thresholds: _Thresholds


def new_record(method: str, **entries: Any) -> Record:
    """Make a record; what is not given is not known."""
    unknown: Record = {"settings": {}, "backbone": None, "trained_on": list(_UNKNOWN), "thresholds": {}}
    return {"method": method, "version": __version__, **unknown, **entries}


def from_checkpoint(checkpoint: Mapping[str, Any], method: str) -> Record:
    """Read the record of a checkpoint, also of version 0.1, which kept the settings among Lightning's alone.

    Args:
        checkpoint: The content of the file.
        method: The class of the model that the checkpoint is for.

    Raises:
        ValueError: If it is of another model, or damaged.
    """
    if not isinstance(checkpoint.get(KEY), Mapping):
        msg = f"expected a checkpoint of {method}, got one of another model (it names no CLIP backbone)"
        raise ValueError(msg)
    record = dict(checkpoint[KEY])
    record.setdefault("settings", dict(checkpoint.get("hyper_parameters", {})))
    record = {**new_record(record.get("method", method), version="0.1"), **record}
    return checked(record, "expected a checkpoint", method)


def to_metadata(record: Record) -> dict[str, str]:
    """Write a record as the metadata of an adapter file."""
    return {"method": record["method"], _METADATA_KEY: json.dumps(record)}


def from_metadata(metadata: Mapping[str, str], method: str, origin: str) -> Record:
    """Read the record of an adapter file, also of version 0.1, which kept no settings.

    Args:
        metadata: Of the file.
        method: The class of the model that the file is for.
        origin: The file, for messages.

    Raises:
        ValueError: If it is of another method, or damaged.
    """
    names = {"method", _METADATA_KEY, "backbone", "trained_on"} & metadata.keys()
    try:
        told = {name: metadata[name] if name == "method" else json.loads(metadata[name]) for name in names}
    except (json.JSONDecodeError, RecursionError) as error:
        msg = f"{origin}: expected an adapter file of {method}, but its metadata is damaged ({error})"
        raise ValueError(msg) from error
    record = told.pop(_METADATA_KEY, None) or {**new_record(method, version="0.1"), **told}
    return checked(record, f"{origin}: expected an adapter file", method)


def checked(record: Any, expected: str, method: str) -> Record:
    """Check that plain data is a whole record of a method.

    Args:
        record: What was read.
        expected: How the message starts: what was read, and what was expected of it.
        method: The class of the model that the record is for.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(record, dict) or not isinstance(record.get("method"), str):
        msg = f"{expected} that says what it is of, got the record {str(record)[:60]!r}"
        raise ValueError(msg)
    if record["method"] != method:
        msg = f"{expected} of {method}, got one of {record['method']}"
        raise ValueError(msg)
    try:
        _Record.model_validate(record, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name, value = ".".join(map(str, fault["loc"])), fault["input"]
        found = "missing" if fault["type"] == "missing" else f"{value!r:.60}"
        msg = f"{expected} with a whole record, but its {name} is {found} ({fault['msg']})"
        raise ValueError(msg) from None
    return record
