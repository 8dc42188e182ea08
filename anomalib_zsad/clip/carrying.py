"""Bringing the weights of a CLIP to this machine beforehand, and to a folder for one without a network."""

import shutil
from contextlib import suppress
from pathlib import Path

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.clip.digest import record_digest, sha256_of
from anomalib_zsad.clip.embedded import embedded_file
from anomalib_zsad.clip.hub import HubName, MissingEntryError, hub_file
from anomalib_zsad.clip.named import config_of
from anomalib_zsad.clip.tokens import HUB_FILES, TOKENIZER, hub_repository
from anomalib_zsad.clip.weights import locate, names_a_file, resolve

DEFAULT_TAG = "openai"
"""The tag of open_clip where none is named."""


def backbone_and_tag(name: str) -> tuple[str, str]:
    """Read the name of a backbone, `BACKBONE[:TAG]`.

    Raises:
        ValueError: If there is no such model, or no such tag of it.
    """
    backbone, _, tag = name.partition(":")
    config_of(backbone)
    if names_a_file(tag := tag or DEFAULT_TAG):
        msg = f"{name}: expected a tag of open_clip after the colon, got {tag!r}"
        raise ValueError(msg)
    locate(backbone, tag)  # raises for a tag that neither open_clip nor `home()` has
    return backbone, tag


def get_backbone(backbone: str, tag: str, folder: Path | None = None) -> Path:
    """Fetch the weights of a CLIP where they are not on this machine.

    Args:
        backbone: A model of open_clip.
        tag: Its tag.
        folder: Where a copy goes that is found with this folder as `home()`. None: no copy.

    Returns:
        The copy, or the file.

    Raises:
        FileNotFoundError: If they cannot be had.
        ValueError: If they are not those that were published.
    """
    source = resolve(backbone, tag)
    if folder is None or embedded_file(backbone):  # which every installation has
        return source
    target = folder / backbone / f"{tag}{source.suffix}"
    digest = sha256_of(source)
    if not target.is_file() or sha256_of(target) != digest:
        copy_whole(source, target)
        record_digest(target, digest, given=True)
    return target


def get_hub_tokenizer(backbone: str, folder: Path | None = None) -> list[Path]:
    """Fetch the tokenizer of a backbone where it is one of the hub.

    Args:
        backbone: A model of open_clip.
        folder: Where copies go that are found with this folder as `home()`. None: no copies.

    Returns:
        The files, or the folder of the copies; nothing for a backbone with the tokenizer of CLIP.

    Raises:
        FileNotFoundError: If they cannot be had.
    """
    repo = hub_repository(backbone)
    if repo is None:
        return []
    files = []
    try:
        for name in HUB_FILES:
            with suppress(MissingEntryError):  # not every repository has them all
                files.append(hub_file(HubName(repo), name))
    except ConnectionError as error:
        msg = f"the tokenizer of {backbone}, {repo} on the hub, could not be fetched ({error})"
        raise FileNotFoundError(msg) from error
    if folder is None:
        return files
    target = folder / backbone / TOKENIZER
    for file in files:
        copy_whole(file, target / file.name)
    return [target]


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all; into itself nothing is copied."""
    if not target.exists() or not target.samefile(source):
        with whole_file(target) as temporary:
            shutil.copyfile(source, temporary)
