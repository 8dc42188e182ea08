"""The record of a model: plain data about what was learnt, alike in a checkpoint and in an adapter file."""

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import NotRequired, TypedDict  # pydantic requires these before Python 3.12

from anomalib_zsad import arguments as arg
from anomalib_zsad._version import __version__

KEY = "anomalib_zsad"
"""The entry of a checkpoint that holds the record."""
_METADATA_KEY = "record"
_UNKNOWN = ["unknown"]
_FUTURE = ConfigDict(extra="allow")
"""Entries of a later version are kept, where it has not changed the others."""


@with_config(_FUTURE)
class Backbone(TypedDict, total=False):
    """The identity of a frozen CLIP, as in `FrozenClip.identity`."""

    fingerprint: str
    backbone: str | None
    pretrained: str | None
    image_size: Any


@with_config(_FUTURE)
class Thresholds(TypedDict, total=False):
    """Raw thresholds, as in `evaluation.post_processor.thresholds_of`; None: not known.

    `fitted_on` names the data they were fitted to, `options` are those of the post-processor, `calibration` is that of
    `Calibration.to_record`.
    """

    image: arg.Share | None
    pixel: arg.Share | None
    fitted_on: list[str]
    options: dict[str, Any]
    calibration: Any


@with_config(_FUTURE)
class Record(TypedDict):
    """What is stored with trained weights. What only some models have, they add in `Persistence.record`.

    `method` is the class of the model, `version` that of this package, `settings` are the arguments that change a
    score, `trained_on` names the training data as "dataset/category". A backbone of None is not known.
    """

    method: str
    version: str
    settings: dict[str, Any]
    backbone: Backbone | None
    trained_on: list[str]
    thresholds: Thresholds
    memory_of: NotRequired[Any]
    threshold_shots: NotRequired[int]
    knowledge_sha256: NotRequired[str | None]
    members: NotRequired[list[dict[str, Any]]]


_RECORD = TypeAdapter(Record)


def new_record(method: str, **entries: Any) -> Record:
    """Make a record; entries that are not given are unknown."""
    unknown: dict[str, Any] = {"settings": {}, "backbone": None, "trained_on": list(_UNKNOWN), "thresholds": {}}
    return cast("Record", {"method": method, "version": __version__, **unknown, **entries})


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
    """Return the metadata of an adapter file that hold a record."""
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
        entries = {name: metadata[name] if name == "method" else json.loads(metadata[name]) for name in names}
    except (json.JSONDecodeError, RecursionError) as error:
        msg = f"{origin}: expected an adapter file of {method}, but its metadata is damaged ({error})"
        raise ValueError(msg) from error
    record = entries.pop(_METADATA_KEY, None) or {**new_record(method, version="0.1"), **entries}
    return checked(record, f"{origin}: expected an adapter file", method)


def checked(record: Any, expected: str, method: str) -> Record:
    """Check that plain data is a whole record of a method.

    Args:
        record: What was read.
        expected: The start of the message: the source, and what was expected.
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
        return _RECORD.validate_python(record, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name, value = ".".join(map(str, fault["loc"])), fault["input"]
        found = "missing" if fault["type"] == "missing" else f"{value!r:.60}"
        msg = f"{expected} with a whole record, but its {name} is {found} ({fault['msg']})"
        raise ValueError(msg) from None
