"""What `weights` may name: an adapter file, a folder of `save_pretrained`, a published adapter, a repository."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomalib_zsad.clip.hub import SCHEME, HubName, MissingEntryError, hub_file
from anomalib_zsad.clip.weights import home
from anomalib_zsad.models.parts.adapter_file import Adapter, read_adapter
from anomalib_zsad.models.parts.publication import PREFIX, Publication, published_adapter
from anomalib_zsad.models.parts.record import Record, checked
from anomalib_zsad.paths import path_component

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
"""The files of a folder of `save_pretrained`, and of a repository: the record, an adapter file and the model card."""

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
    config = _config(folder, method)
    adapter = read_adapter(folder / WEIGHTS, method)
    if differing := _differing(config, adapter.record):
        msg = (
            f"{folder / CONFIG}: expected the record of {WEIGHTS} beside it, but {', '.join(differing)} differ: "
            f"one of the two was changed or is of another model, save both anew (save_pretrained)"
        )
        raise ValueError(msg)
    return adapter


def repository(name: HubName, **options: Any) -> Path:
    """Return the folder with the files of a repository: in `home()`, in the hub's cache, or fetched into it.

    Args:
        name: The repository.
        **options: As in `hub_file`.

    Raises:
        FileNotFoundError: If they cannot be had.
    """
    if (carried := carried_folder(name)).is_dir() and not options:
        return carried
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


def carried_folder(name: HubName, base: Path | None = None) -> Path:
    """Say where a repository is kept for machines without a network: in a folder that is, or becomes, `home()`."""
    revision = "" if name.revision is None else f"@{path_component(name.revision)}"
    return (base or home()) / "hub" / f"{name.repo.replace('/', '--')}{revision}"


def _config(folder: Path, method: str) -> Record:
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
    return checked(config, f"{path}: expected the record", method)


def _differing(one: Record, other: Record) -> list[str]:
    written = ({name: json.dumps(value, sort_keys=True) for name, value in each.items()} for each in (one, other))
    first, second = written
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
