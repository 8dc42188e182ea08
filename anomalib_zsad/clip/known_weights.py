"""Where the weights of open_clip's tags are published, and fetching them from there."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from anomalib_zsad.clip.digest import check_digest, hash_file, record_digest
from anomalib_zsad.clip.fetching import check_online, fetch
from anomalib_zsad.clip.hub import HubName, MissingEntryError, hub_file, reason_of

_SAFE = "open_clip_model.safetensors"
_PICKLED = "open_clip_pytorch_model.bin"
_QUICK_GELU = "-quickgelu"
_OPENAI = "openai"
_SECONDS = 4
"""The time to wait for an answer about a file."""


@dataclass(frozen=True)
class Publication:
    """Where one tag is published.

    Args:
        repo: A repository on the Hugging Face hub, or "".
        files: Names of the weights in it, the best first.
        url: A file outside the hub whose SHA-256 is known, or "".
        sha256: All or the first digits of the SHA-256 of the url's file.
    """

    repo: str
    files: tuple[str, ...]
    url: str
    sha256: str


def publication_of(backbone: str, tag: str) -> Publication | None:
    """Look up where a tag is published; None if open_clip's table does not have it."""
    config = entry_of(backbone, tag)
    if config is None:
        return None
    repo, _, file = config.get("hf_hub", "").rpartition("/")
    url = config.get("url", "")
    sha256 = _digest_in(url)
    # A url without a digest could bring anything: it is not used.
    return Publication(repo, _alternatives(file) if repo else (), url if sha256 else "", sha256)


def entry_of(backbone: str, tag: str) -> dict[str, Any] | None:
    """Look up a tag in open_clip's table; None if it is not there."""
    from open_clip.pretrained import get_pretrained_cfg

    entries = (get_pretrained_cfg(name, tag) for name in same_weights(backbone))
    return next((entry for entry in entries if entry), None)


def is_trained_with_gelu(backbone: str, tag: str) -> bool:
    """Whether a tag was trained with GELU by open_clip's table: not with QuickGELU, and not unknown."""
    from open_clip.pretrained import get_pretrained_cfg

    entries = {name: entry for name in same_weights(backbone) if (entry := get_pretrained_cfg(name, tag))}
    # Before open_clip 3 only the name shows it, and OpenAI's tag.
    quick = tag == _OPENAI or any(
        name.endswith(_QUICK_GELU) or entry.get("quick_gelu") for name, entry in entries.items()
    )
    return bool(entries) and not quick


def tags_of(backbone: str) -> list[str]:
    """List the tags that open_clip has for a backbone."""
    from open_clip.pretrained import list_pretrained_tags_by_model

    return sorted({tag for name in same_weights(backbone) for tag in list_pretrained_tags_by_model(name)})


def same_weights(backbone: str) -> tuple[str, str]:
    """Name a backbone with and without the suffix for its activation, the given name first.

    open_clip lists tags under either; the activation does not change the weights.
    """
    plain = backbone.removesuffix(_QUICK_GELU)
    return (backbone, plain) if backbone != plain else (plain, plain + _QUICK_GELU)


def cached(publication: Publication) -> Path | None:
    """Find a publication in the hub's cache on this machine."""
    from huggingface_hub import try_to_load_from_cache

    for file in publication.files:
        found = try_to_load_from_cache(publication.repo, file)
        if isinstance(found, str):
            return Path(found)
    return None


def hub_digest(path: Path) -> str:
    """Return the hub's SHA-256 of a file in its cache, "" if the cache has none.

    The cache names large files by the SHA-256 that the hub announced for them.
    """
    name = path.resolve().name
    return name if re.fullmatch("[0-9a-f]{64}", name) else ""


def download(publication: Publication, target: Path) -> Path:
    """Fetch weights: into the hub's cache, or to `target` from a url.

    Args:
        publication: What to fetch.
        target: Where the file of a url goes.

    Raises:
        ConnectionError: If neither answers; the message holds the reasons.
    """
    check_online()
    reasons = []
    ways = (("hub", publication.repo, _from_hub), ("url", publication.url, _from_url))
    for way, source, bring in ways:
        if source:
            try:
                return bring(publication, target)
            except OSError as error:
                reasons.append(f"{way}: {error}")
    raise ConnectionError("; ".join(reasons))


def size_there(publication: Publication) -> int:
    """Ask how many bytes a download would bring, without bringing them.

    Raises:
        ConnectionError: If neither the hub nor the server of the url answers in a few seconds, or the network is
            switched off; the message holds the reasons.
    """
    check_online()
    reasons = []
    for way, source, ask in (("hub", publication.repo, _size_on_hub), ("url", publication.url, _size_at)):
        if source:
            try:
                return ask(publication)
            except OSError as error:
                reasons.append(f"{way}: {getattr(error, 'reason', error)}")
    raise ConnectionError("; ".join(reasons))


def _size_on_hub(publication: Publication) -> int:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import EntryNotFoundError

    name = HubName(publication.repo)
    for file in publication.files:
        try:
            return get_hf_file_metadata(hf_hub_url(publication.repo, file), timeout=_SECONDS).size or 0
        except EntryNotFoundError:  # noqa: PERF203
            continue  # not every repository has the file in each format
        except Exception as error:  # as in `hub_file`
            raise ConnectionError(reason_of(error, name)) from error
    msg = f"none of {', '.join(publication.files)} is there"
    raise ConnectionError(msg)


def _size_at(publication: Publication) -> int:
    with urlopen(Request(publication.url, method="HEAD"), timeout=_SECONDS) as response:
        return int(response.headers.get("Content-Length") or 0)


def _from_hub(publication: Publication, target: Path) -> Path:  # noqa: ARG001
    for file in publication.files:
        with suppress(MissingEntryError):  # not every repository has the file in each format
            return hub_file(HubName(publication.repo), file)
    msg = f"none of {', '.join(publication.files)} is there"
    raise ConnectionError(msg)


def _from_url(publication: Publication, target: Path) -> Path:
    digests = []

    def check(file: Path) -> None:
        digests.append(hash_file(file))
        check_digest(file.with_name(target.name), digests[0], publication.sha256)

    fetch(publication.url, target, check)
    record_digest(target, digests[0], given=True)
    return target


def _alternatives(file: str) -> tuple[str, ...]:
    if not file:  # open_clip's default names
        return (_SAFE, _PICKLED)
    safe = Path(file).with_suffix(".safetensors").name
    return (safe, file) if safe != file else (file,)


def _digest_in(url: str) -> str:
    """OpenAI puts the SHA-256 into the folder's name, open_clip its first eight digits at the end of the file's."""
    path = Path(urlsplit(url).path)
    candidates = re.fullmatch("[0-9a-f]{64}", path.parent.name), re.search("(?<=-)[0-9a-f]{8,64}$", path.stem)
    return next((match[0] for match in candidates if match), "")
