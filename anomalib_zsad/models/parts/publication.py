"""Adapters that authors published on GitHub, by name: fetched, checked and converted once."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from anomalib_zsad.clip.fetching import fetch, git_blob_id
from anomalib_zsad.clip.weights import home
from anomalib_zsad.data.names import classes_of
from anomalib_zsad.models.parts.adapter_file import save_adapter
from anomalib_zsad.models.parts.record import new_record, to_metadata

logger = logging.getLogger(__name__)

PREFIX = "released/"
"""What the names of published adapters start with."""

_GITHUB, _RAW = "https://github.com", "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Publication:
    """What authors published for one auxiliary dataset: files at one commit, known by the SHA-1 of git.

    Args:
        method: The class of the model.
        folder: Where files are kept, in `home()`.
        repository: "owner/name" on GitHub.
        commit: Of the repository.
        blobs: The SHA-1 of each file as a git blob, by its path in the repository.
        read: Makes the tensors of an adapter file of the files, in the order of `blobs`; must not unpickle.
        dataset: What was trained on.
        settings: Arguments of the model that the tensors were trained with.
        licence: Of the files; None: the authors state none.
    """

    method: str
    folder: str
    repository: str
    commit: str
    blobs: Mapping[str, str]
    read: Callable[..., dict[str, Tensor]]
    dataset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None

    @property
    def files(self) -> dict[Path, str]:
        """Where each file is, or will be, and its path in the repository."""
        return {home() / self.folder / Path(path).name: path for path in self.blobs}

    @property
    def page(self) -> str:
        """The url of the repository."""
        return f"{_GITHUB}/{self.repository}"

    def url(self, path: str) -> str:
        """Return the url of a file of the repository."""
        return f"{_RAW}/{self.repository}/{self.commit}/{path}"

    def adapter(self, name: str) -> Path:
        """Return where the adapter file of a name is, or will be."""
        return home() / self.folder / f"{name.removeprefix(PREFIX)}.safetensors"

    def check(self, file: Path, path: str, target: Path) -> None:
        """Check a file against what was published.

        Args:
            file: What is checked.
            path: In the repository.
            target: Where it belongs, for the message.

        Raises:
            ValueError: If it is another one.
        """
        if (found := git_blob_id(file)) != self.blobs[path]:
            msg = (
                f"{target}: expected the file that git stores as {self.blobs[path]}, got {found}: it is damaged or "
                f"another one, fetch {self.url(path)} and put it there"
            )
            raise ValueError(msg)


def published_adapter(name: str, publication: Publication) -> Path:
    """Return the adapter file of a publication; fetch and convert the authors' files where it does not exist yet.

    Args:
        name: For messages and for the name of the file: "released/visa".
        publication: What it stands for.

    Raises:
        FileNotFoundError: If a file is neither on this machine nor can be downloaded.
        ValueError: If a file on this machine is not the published one.
    """
    adapter = publication.adapter(name)
    if adapter.is_file():
        return adapter
    files = [_file(name, publication, *entry) for entry in publication.files.items()]
    record = new_record(
        publication.method,
        settings=dict(publication.settings),
        trained_on=[f"{publication.dataset}/{each}" for each in classes_of(publication.dataset)],
    )
    names = ", ".join(file.name for file in files)
    origin = f"published by the authors: {publication.page} at {publication.commit}, {names}"
    save_adapter(adapter, publication.read(*files), {**to_metadata(record), "origin": origin})
    logger.info("%s is kept at %s.", name, adapter)
    return adapter


def _file(name: str, publication: Publication, file: Path, path: str) -> Path:
    url = publication.url(path)
    if file.is_file():
        publication.check(file, path, file)
        return file
    if publication.licence is None:
        logger.warning("Fetching %s: the authors state no licence for these weights (%s).", url, publication.page)
    else:
        logger.info("Fetching %s (%s).", url, publication.licence)
    try:
        fetch(url, file, lambda fetched: publication.check(fetched, path, file))
    except OSError as error:
        msg = (
            f"weights={name!r}: {file.name} is not on this machine and could not be downloaded ({error}): "
            f"fetch {url} and put it at {file}"
        )
        raise FileNotFoundError(msg) from error
    return file
