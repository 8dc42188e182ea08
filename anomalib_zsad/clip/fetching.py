"""Fetching one file from a url: with progress, checked before it takes its place, whole or not at all."""

import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from rich import progress
from rich.console import Console

from anomalib_zsad.atomic import whole_file

_TIMEOUT = 30  # seconds without an answer
_CHUNK = 2**18


def fetch(url: str, target: Path, check: Callable[[Path], None]) -> None:
    """Fetch a file.

    Args:
        url: Where it is; must not come from outside, since urlopen takes other schemes than http(s).
        target: Where it goes.
        check: Is given the fetched file before it takes its place, and raises where it is not the one expected.

    Raises:
        ConnectionError: If the network is switched off by HF_HUB_OFFLINE, or the connection breaks off.
        OSError: If the server does not answer or does not have the file.
    """
    check_online()
    with whole_file(target) as temporary:
        _download(url, temporary)
        check(temporary)


def check_online() -> None:
    """Check that the network may be used.

    Raises:
        ConnectionError: If HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        msg = "HF_HUB_OFFLINE is set"
        raise ConnectionError(msg)


def git_blob_id(path: Path) -> str:
    """Return the SHA-1 under which git stores a file, 40 hexadecimal digits."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        name = Path(urlsplit(url).path).name
        with progress.Progress(
            *progress.Progress.get_default_columns(), progress.DownloadColumn(), console=Console(stderr=True)
        ) as bar:
            task = bar.add_task(name, total=size or None)
            while chunk := response.read(_CHUNK):
                bar.advance(task, file.write(chunk))
    if size and path.stat().st_size != size:
        msg = f"the connection broke off after {path.stat().st_size} of {size} bytes"
        raise ConnectionError(msg)
