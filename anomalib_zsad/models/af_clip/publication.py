"""The adapters that the authors of AF-CLIP published, by name: fetched, checked and converted once.

The files are those of https://github.com/Faustinaqq/AF-CLIP at one commit, recognised by the SHA-1 under which git
stores them. The authors state no licence for them.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from anomalib_zsad.clip.fetching import fetch, git_blob_id
from anomalib_zsad.clip.weights import home
from anomalib_zsad.data.names import classes_of
from anomalib_zsad.models.af_clip.released import read_released
from anomalib_zsad.models.parts.adapter_file import save_adapter
from anomalib_zsad.models.parts.record import new_record, to_metadata

logger = logging.getLogger(__name__)

REPOSITORY = "https://github.com/Faustinaqq/AF-CLIP"
_COMMIT = "bb7edec4128a76f29cb573cd3002538bf250b2fe"
_FILES = f"https://raw.githubusercontent.com/Faustinaqq/AF-CLIP/{_COMMIT}/weight"


@dataclass(frozen=True)
class Publication:
    """The two files for one auxiliary dataset.

    Args:
        dataset: The auxiliary dataset.
        blobs: The SHA-1 of each file as a git blob, by the file's name: first the prompt, then the adaptor.
    """

    dataset: str
    blobs: dict[str, str]


PUBLICATIONS = {
    "released/visa": Publication(
        "VisA",
        {
            "visa_prompt.pt": "e05bee61b1f26e085362298be63bc1c4cb01311b",
            "visa_adaptor.pt": "17e206c114b9dc6f4c5aa1b5706ff54240c50ddd",
        },
    ),
    "released/mvtec": Publication(
        "MVTec",
        {
            "mvtec_prompt.pt": "9d52021f48946d3fe9e6b1780f120137adfb9b82",
            "mvtec_adaptor.pt": "bfb640436055e9140b843520cc07dd354d599e0d",
        },
    ),
}
"""By the name for `weights=`."""


def folder() -> Path:
    """Return where the authors' files and what is converted from them are kept."""
    return home() / "af_clip"


def adapter_of(name: str) -> Path:
    """Return where the adapter file of a publication is, or will be."""
    return folder() / f"{name.partition('/')[2]}.safetensors"


def published_adapter(name: str) -> Path:
    """Return the adapter file of a publication; fetch and convert the authors' files where it does not exist yet.

    Args:
        name: A key of `PUBLICATIONS`.

    Raises:
        FileNotFoundError: If a file is neither on this machine nor can be downloaded.
        ValueError: If a file on this machine is not the published one.
    """
    adapter, publication = adapter_of(name), PUBLICATIONS[name]
    if adapter.is_file():
        return adapter
    prompt, adaptor = (_file(name, file, blob) for file, blob in publication.blobs.items())
    record = new_record(
        "AFClip", trained_on=[f"{publication.dataset}/{each}" for each in classes_of(publication.dataset)]
    )
    origin = f"published by the authors: {REPOSITORY} at {_COMMIT}, {prompt.name}, {adaptor.name}"
    save_adapter(adapter, read_released(prompt, adaptor), {**to_metadata(record), "origin": origin})
    logger.info("%s is kept at %s.", name, adapter)
    return adapter


def _file(name: str, file: str, blob: str) -> Path:
    path, url = folder() / file, f"{_FILES}/{file}"
    if path.is_file():
        _check(path, blob, path)
        return path
    logger.warning("Fetching %s: the authors state no licence for these weights (%s).", url, REPOSITORY)
    try:
        fetch(url, path, lambda fetched: _check(fetched, blob, path))
    except OSError as error:
        msg = (
            f"weights={name!r}: {file} is not on this machine and could not be downloaded ({error}): "
            f"fetch {url} and put it at {path}"
        )
        raise FileNotFoundError(msg) from error
    return path


def _check(path: Path, blob: str, target: Path) -> None:
    if (found := git_blob_id(path)) != blob:
        msg = (
            f"{target}: expected the file that git stores as {blob}, got {found}: it is damaged or another one, fetch "
            f"{_FILES}/{target.name} and put it there"
        )
        raise ValueError(msg)
