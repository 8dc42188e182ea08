"""Which weights of CLIP are on this machine, where, and whether they are what they should be."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from anomalib_zsad.clip.carrying import DEFAULT_TAG
from anomalib_zsad.clip.digest import check_digest, sha256_of
from anomalib_zsad.clip.embedded import DIGESTS, embedded_file
from anomalib_zsad.clip.hub import unfinished_in
from anomalib_zsad.clip.known_weights import cached, publication_of, same_weights
from anomalib_zsad.clip.weights import WEIGHT_SUFFIXES, Located, home, locate

State = Literal["complete", "partial", "wrong content", "absent"]

_EVERYWHERE = {("ViT-L-14-336", DEFAULT_TAG), *((backbone, DEFAULT_TAG) for backbone in DIGESTS)}
"""What all methods take unless told otherwise, and what this package brings."""


@dataclass(frozen=True)
class Held:
    """Weights that are known, or found on this machine.

    Args:
        name: What `anomalib-zsad weights get` takes; of other files the path.
        use: "CLIP", or the class of the model that an adapter is for.
        path: Where they are. None: nowhere yet.
        size: In bytes, of what is there.
        state: "partial": a part is missing. "wrong content": not what was published or recorded, or damaged.
        note: More about it, in words.
    """

    name: str
    use: str
    path: Path | None
    size: int
    state: State
    note: str = ""


def backbones() -> list[Held]:
    """List the CLIPs of this package, the default one, and those found in `home()` and in the hub's cache."""
    found = {*_EVERYWHERE, *_at_home(), *_cached()}
    return [_held(backbone, tag) for backbone, tag in sorted(found)]


def _held(backbone: str, tag: str) -> Held:
    name = backbone if embedded_file(backbone) else f"{backbone}:{tag}"
    if located := locate(backbone, tag):
        return Held(name, "CLIP", located.path, located.path.stat().st_size, *_state(located))
    publication = publication_of(backbone, tag)
    if publication and publication.repo and (broken_off := unfinished_in(publication.repo)):
        size = sum(file.stat().st_size for file in broken_off)
        return Held(name, "CLIP", broken_off[0], size, "partial", "the download broke off")
    return Held(name, "CLIP", None, 0, "absent")


def _state(located: Located) -> tuple[State, str]:
    path = located.path
    if not is_whole(path):
        return "partial", "cut off"
    try:
        check_digest(path, sha256_of(path), located.sha256)
    except ValueError as error:
        return "wrong content", str(error).partition(": ")[2]
    return "complete", "" if located.sha256 else "no SHA-256 is published to check it against"


def is_whole(path: Path) -> bool:
    """Whether a file has the length that its header states, as far as it states one."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="np"):
                return True
        except SafetensorError:
            return False
    with path.open("rb") as file:
        packed = file.read(2) == b"PK"
    return zipfile.is_zipfile(path) or not packed  # the directory of an archive stands at its end


def _at_home() -> Iterator[tuple[str, str]]:
    from open_clip import list_models

    for backbone in list_models():
        for path in (home() / backbone).glob("*"):
            if path.suffix in WEIGHT_SUFFIXES and not path.name.startswith("."):
                yield _plain(backbone), path.stem


def _cached() -> Iterator[tuple[str, str]]:
    from open_clip import list_pretrained

    for backbone, tag in list_pretrained():
        publication = publication_of(backbone, tag)
        if publication and publication.repo and (cached(publication) or unfinished_in(publication.repo)):
            yield _plain(backbone), tag


def _plain(backbone: str) -> str:
    """Leave out the suffix for the activation: the weights are the same."""
    return min(same_weights(backbone), key=len)
