"""All weights that have a name here or are on this machine, and fetching them beforehand."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from anomalib_zsad import models
from anomalib_zsad.atomic import replace_together, unfinished_folder
from anomalib_zsad.clip import backbone_inventory as clips
from anomalib_zsad.clip.backbone_inventory import Held
from anomalib_zsad.clip.carrying import backbone_and_tag, copy_whole, get_backbone, get_hub_tokenizer
from anomalib_zsad.clip.hub import SCHEME, HubName, MissingEntryError, hub_file
from anomalib_zsad.models.parts import adapter_inventory as adapters
from anomalib_zsad.models.parts.publication import PREFIX, Publication, published_adapter
from anomalib_zsad.models.parts.weights_source import CARD, CONFIG, WEIGHTS, carried_folder, fetched_repository

Getter = Callable[[Path | None], list[Path]]
"""Fetches, and copies into a folder where one is given; returns where the files are."""


def inventory() -> list[Held]:
    """List CLIPs, published adapters, and the adapters in `home()` and in the hub's cache."""
    published = [held for kind in _kinds() for held in adapters.published(kind.published)]
    return [*clips.backbones(), *published, *adapters.carried(), *adapters.others(), *adapters.cached()]


def getter(name: str) -> Getter:
    """Return a function that fetches weights; nothing is fetched before its call.

    Args:
        name: `BACKBONE[:TAG]`, `released/<name>` of all methods that have it, or `hf://user/name[@revision]`.

    Returns:
        The function that does it. It raises a FileNotFoundError if they cannot be had, and a ValueError if they are not
        those that were published.

    Raises:
        ValueError: If nothing of this name is known.
    """
    if name.startswith(SCHEME):
        return partial(_get_repository, HubName.of(name))
    if name.startswith(PREFIX):
        found = [kind.published[name] for kind in _kinds() if name in kind.published]
        if not found:
            known = ", ".join(sorted({each for kind in _kinds() for each in kind.published}))
            msg = f"expected one of {known}, got {name!r}"
            raise ValueError(msg)
        return partial(_get_published, name, found)
    if "/" in name:
        msg = f"expected BACKBONE[:TAG], {PREFIX}<name> or {SCHEME}user/name[@revision], got {name!r}"
        raise ValueError(msg)
    backbone, tag = backbone_and_tag(name)
    return lambda folder: [get_backbone(backbone, tag, folder), *get_hub_tokenizer(backbone, folder)]


def _kinds() -> list[type[models.Persistence]]:
    return [getattr(models, name) for name in models.__all__]


def _get_published(name: str, publications: list[Publication], folder: Path | None) -> list[Path]:
    paths = []
    for publication in publications:
        source = published_adapter(name, publication)
        target = source if folder is None else folder / publication.folder / source.name
        copy_whole(source, target)
        paths.append(target)
    return paths


def _get_repository(name: HubName, folder: Path | None) -> list[Path]:
    source = fetched_repository(name)
    with suppress(MissingEntryError, ConnectionError):  # scores do not depend on the card
        hub_file(HubName(name.repo, source.name), CARD)
    if folder is None:
        return [source]
    target = carried_folder(name, folder)
    with unfinished_folder(target.parent) as temporary:
        files = [file for each in (CARD, WEIGHTS, CONFIG) if (file := source / each).is_file()]
        copies = [Path(shutil.copyfile(file, temporary / file.name)) for file in files]
        replace_together(copies, target)
    return [target]
