"""What `weights` may name: an adapter file, a folder of `save_pretrained`, a published adapter, a repository."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomalib_zsad.clip.hub import SCHEME, HubName, MissingEntryError, hub_file
from anomalib_zsad.clip.weights import home
from anomalib_zsad.models.parts.adapter_file import Adapter, read_adapter, read_metadata
from anomalib_zsad.models.parts.publication import PREFIX, Publication, published_adapter
from anomalib_zsad.models.parts.record import checked, from_metadata
from anomalib_zsad.paths import path_component

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
"""The files of a folder of `save_pretrained`, and of a repository: the record, an adapter file and the model card."""

CARRIED = "hub"
"""The folder for repositories in `home()`."""

_LONGEST_CONFIG = 16 << 20  # bytes
_TABLE: Mapping[str, Publication] = {}


def read_weights(weights: str | Path, method: str, published: Mapping[str, Publication] = _TABLE) -> Adapter:
    """Read what `weights` names.

    Args:
        weights: A file, a folder, `released/<name>` or `hf://user/name[@revision]`.
        method: The class of the model that it is for.
        published: The published adapters of this class.

    Raises:
        FileNotFoundError: If it is not on this machine and cannot be fetched.
        ValueError: If it is damaged, of another method, or no name that this method has.
    """
    path, name = Path(weights), str(weights)
    if path.is_dir():
        return read_folder(path, method)
    if not path.exists() and name.startswith(SCHEME):
        return read_folder(repository(HubName.of(name)), method)
    if not path.exists() and name.startswith(PREFIX):
        if name not in published:
            known = f"one of {', '.join(published)}" if published else "an adapter file"
            msg = f"weights: expected {known} for {method}, got {name!r}"
            raise ValueError(msg)
        path = published_adapter(name, published[name])
    return read_adapter(path, method)


def read_folder(folder: Path, method: str) -> Adapter:
    """Read a folder of `save_pretrained`.

    Raises:
        FileNotFoundError: If one of its files is missing.
        ValueError: If a file is damaged, of another method, or the two do not belong together.
    """
    config = checked(_config(folder), f"{folder / CONFIG}: expected the record", method)
    adapter = read_adapter(folder / WEIGHTS, method)
    _check_same(folder, config, adapter.record)
    return adapter


def check_folder(folder: Path) -> None:
    """Check a folder of `save_pretrained`, of any method, without reading its tensors.

    Raises:
        FileNotFoundError: If one of its files is missing.
        ValueError: If one is damaged, or the two do not belong together.
    """
    config, path = _config(folder), folder / WEIGHTS
    method = str(config.get("method"))
    record = from_metadata(read_metadata(path), method, str(path))
    _check_same(folder, checked(config, f"{folder / CONFIG}: expected the record", method), record)


def method_of(folder: Path) -> str | None:
    """Name the method that a folder holds a model of; None where its config.json is of another library, or damaged."""
    try:
        config = _config(folder)
    except (OSError, ValueError):
        return None
    return config["method"] if {"method", "trained_on", "thresholds"} <= config.keys() else None


def repository(name: HubName) -> Path:
    """Return the folder with the files of a repository: in `home()`, in the hub's cache, or fetched into it.

    Raises:
        FileNotFoundError: If they cannot be had.
    """
    folder = carried_folder(name, home())
    return folder if folder.is_dir() else fetched_repository(name)


def fetched_repository(name: HubName, **options: Any) -> Path:
    """Return the folder with the files of a repository in the hub's cache; fetch what is not there.

    Args:
        name: The repository.
        **options: As in `hub_file`.

    Raises:
        FileNotFoundError: If they cannot be had.
    """
    try:
        config = hub_file(name, CONFIG, **options)
        # The main branch may move on in between.
        return hub_file(HubName(name.repo, config.parent.name), WEIGHTS, **options).parent
    except MissingEntryError as error:
        msg = f"{name}: expected a repository of anomalib_zsad (push_to_hub) with {CONFIG} and {WEIGHTS}, but {error}"
        raise FileNotFoundError(msg) from error
    except ConnectionError as error:
        msg = f"{name}: {error}"
        raise FileNotFoundError(msg) from error


def carried_folder(name: HubName, base: Path) -> Path:
    """Return where a repository is for machines without a network, in a folder that is, or becomes, `home()`."""
    revision = "" if name.revision is None else f"@{path_component(name.revision)}"
    return base / CARRIED / f"{name.repo.replace('/', '--')}{revision}"


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        msg = f"{folder}: expected a folder of save_pretrained with {CONFIG} and {WEIGHTS}, found no {CONFIG}"
        raise FileNotFoundError(msg)
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_CONFIG + 1)
        config = json.loads(content[:_LONGEST_CONFIG])
    except (ValueError, RecursionError) as error:
        msg = f"{path}: expected the record of a model as JSON, but it is damaged ({error})"
        raise ValueError(msg) from error
    if not isinstance(config, dict):
        msg = f"{path}: expected the record of a model, got {str(config)[:60]!r}"
        raise ValueError(msg)
    return config


def _check_same(folder: Path, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    first, second = ({name: json.dumps(each[name], sort_keys=True) for name in each} for each in (one, other))
    if differing := sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name)):
        msg = (
            f"{folder / CONFIG}: expected the record of {WEIGHTS} beside it, but {', '.join(differing)} differ: "
            f"one of the two was changed or is of another model, save both anew (save_pretrained)"
        )
        raise ValueError(msg)
