"""Where the weights of a backbone are found: a given file, ANOMALIB_ZSAD_HOME, the hub's cache, a download."""

import os
from dataclasses import dataclass
from pathlib import Path

from anomalib_zsad.clip.digest import check_digest, hash_file, recorded_digest, sha256_of
from anomalib_zsad.clip.embedded import DIGESTS, embedded_file
from anomalib_zsad.clip.known_weights import (
    Publication,
    cached,
    download,
    hub_digest,
    publication_of,
    same_weights,
    tags_of,
)
from anomalib_zsad.clip.named import config_of

__all__ = ["Located", "home", "how_to_fetch", "locate", "names_a_file", "resolve", "sha256_of", "verify"]

HOME_VARIABLE = "ANOMALIB_ZSAD_HOME"

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Located:
    """A weight file on this machine.

    Args:
        path: The file.
        source: Where it was found, in words.
        sha256: The digest that was published for it, or its first digits; "" where none is known.
    """

    path: Path
    source: str
    sha256: str = ""


def home() -> Path:
    """Return the folder for weights: `$ANOMALIB_ZSAD_HOME`, or a folder in the user's cache."""
    named = os.environ.get(HOME_VARIABLE)
    return _expanded(named, HOME_VARIABLE) if named else Path.home() / ".cache" / "anomalib_zsad"


def resolve(backbone: str, pretrained: str | Path) -> Path:
    """Find the weights of a backbone, and download them where they are not on this machine.

    Args:
        backbone: An open_clip model name; not used where `pretrained` is a file.
        pretrained: A file, or a tag. A backbone whose weights this package brings has no others, whatever the tag.
            Else `<home>/<backbone>/<tag>.safetensors` (.pt, .pth, .bin), then a tag of open_clip
            in the hub's cache, on the hub, or at the url that open_clip names.

    Returns:
        The file; its SHA-256 is that which was published, where one was.

    Raises:
        FileNotFoundError: If there is no such file, or it can neither be found nor downloaded.
        ValueError: If the backbone or the tag is unknown, or the file's SHA-256 is not the one published.
    """
    located = locate(backbone, pretrained) or _download(backbone, str(pretrained))
    digest = sha256_of(located.path)
    check_digest(located.path, digest, located.sha256)
    return located.path


def locate(backbone: str, pretrained: str | Path) -> Located | None:
    """Find the weights of a backbone on this machine, without any network.

    Args:
        backbone: As for `resolve`.
        pretrained: As for `resolve`.

    Returns:
        The file, or None where it has to be downloaded first.

    Raises:
        FileNotFoundError: If a file is named that does not exist.
        ValueError: If the backbone or the tag is unknown.
    """
    given = _expanded(pretrained, "pretrained")
    if given.is_file():
        return Located(given, "the given file")
    if names_a_file(pretrained):
        msg = f"pretrained={str(pretrained)!r}: expected a file with weights or a tag of open_clip, found no such file"
        raise FileNotFoundError(msg)
    if own := embedded_file(backbone):  # the only weights of that name, whatever the tag
        return Located(own, "this package", DIGESTS[backbone])
    tag = str(pretrained)
    publication = publication_of(backbone, tag)
    if at_home := _at_home(backbone, tag):
        # <tag>.pt is the place of the url's file.
        published = publication.sha256 if publication and at_home.suffix == ".pt" else ""
        return Located(at_home, f"the folder {home()}", published)
    found = cached(publication or _refuse(backbone, tag))
    return Located(found, "the hub's cache", hub_digest(found)) if found else None


def names_a_file(pretrained: str | Path) -> bool:
    """Whether this is the name of a file, not a tag."""
    looks_like_one = Path(pretrained).suffix in WEIGHT_SUFFIXES or any(c in str(pretrained) for c in "/\\")
    return isinstance(pretrained, Path) or looks_like_one or _expanded(pretrained, "pretrained").is_file()


def how_to_fetch(backbone: str, tag: str) -> str:
    """Name the file to fetch for a tag and where to put it, as a part of a sentence."""
    publication = publication_of(backbone, tag) or _refuse(backbone, tag)
    folder = home() / backbone
    ways = [
        f"fetch {file} of the hub's repository {publication.repo} and put it at {folder / tag}{Path(file).suffix}"
        for file in publication.files[:1]
    ]
    if publication.url:
        ways.append(f"fetch {publication.url} and put it at {_url_target(backbone, tag)}")
    return ", or ".join(ways)


def verify(located: Located) -> tuple[str, bool]:
    """Read a weight file anew and check its SHA-256 against all that is known of it.

    Returns:
        The digest, and whether there was anything to check it against.

    Raises:
        ValueError: If it differs from what was published or recorded.
    """
    digest = hash_file(located.path)
    known = [expected for expected in (located.sha256, recorded_digest(located.path)) if expected]
    for expected in known:
        check_digest(located.path, digest, expected)
    return digest, bool(known)


def _expanded(path: str | Path, what: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        msg = f"{what} must be a path, got {path}, the home of a user that is not known"
        raise ValueError(msg) from error


def _at_home(backbone: str, tag: str) -> Path | None:
    files = (home() / name / f"{tag}{suffix}" for name in same_weights(backbone) for suffix in WEIGHT_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _url_target(backbone: str, tag: str) -> Path:
    return home() / backbone / f"{tag}.pt"


def _download(backbone: str, tag: str) -> Located:
    publication = publication_of(backbone, tag) or _refuse(backbone, tag)
    try:
        path = download(publication, _url_target(backbone, tag))
    except ConnectionError as error:
        msg = (
            f"the weights {tag!r} of {backbone} are not on this machine and could not be downloaded ({error}): "
            f"{how_to_fetch(backbone, tag)}"
        )
        raise FileNotFoundError(msg) from error
    return Located(path, "a download", hub_digest(path))


def _refuse(backbone: str, tag: str) -> Publication:
    config_of(backbone)  # an unknown backbone has its own sentence
    tags = tags_of(backbone)
    known = f"open_clip has {', '.join(tags)}" if tags else "open_clip has none for it, give a file instead"
    msg = f"pretrained={tag!r} is not a tag of {backbone}: {known}"
    raise ValueError(msg)
