"""SHA-256 digests of weight files, recorded beside them so that large files are not read at every start."""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rich import progress
from rich.console import Console

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.clip.embedded import is_embedded

_LARGE = 256 * 2**20  # bytes that take about a second: from here on a progress bar is shown
_CHUNK = 2**20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, from the record beside it if the file has not changed since.

    The record is `<file>.sha256` in the format of sha256sum. One that came with the file is what the file must match;
    it is then marked as checked. Where there is none, the digest is recorded for the next time if the folder allows.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: If the digest differs from the one that came with the file.
    """
    if is_embedded(path):  # small, and nothing is written into the package
        return hash_file(path)
    stamp = _stamp(path)
    record = _read_record(path)
    if record and record.stamp == stamp:
        return record.digest
    digest = hash_file(path)
    if record and record.given:
        check_digest(path, digest, record.digest)
    record_digest(path, digest, given=bool(record and record.given))
    return digest


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file, without using its record."""
    return _hash(path, _stamp(path))


def recorded_digest(path: Path) -> str | None:
    """Return the SHA-256 recorded beside a file, which may be out of date."""
    record = _read_record(path)
    return record.digest if record else None


def record_digest(path: Path, digest: str, *, given: bool) -> None:
    """Record the SHA-256 of a file beside it.

    Args:
        path: The file.
        digest: Its 64 hexadecimal digits.
        given: Whether the digest was published with the file, so that it must always match.
    """
    # sha256sum passes over lines that start with "#".
    line = f"# {_GIVEN if given else _SEEN} {_stamp(path)}\n{digest}  {path.name}\n"
    with suppress(OSError), whole_file(_record_path(path)) as temporary:  # a folder without leave to write
        temporary.write_text(line, encoding="utf-8")


def check_digest(path: Path, digest: str, expected: str) -> None:
    """Check a digest against the one that was published.

    Args:
        path: The file, for the message.
        digest: What it has.
        expected: What it should have: all or the first of the 64 digits.

    Raises:
        ValueError: If they differ.
    """
    if not digest.startswith(expected):
        msg = f"{path}: expected SHA-256 {expected}, got {digest}: the file is damaged or another one, fetch it again"
        raise ValueError(msg)


_GIVEN = "checked against what came with the file:"
_SEEN = "as found:"


@dataclass(frozen=True)
class _Record:
    digest: str
    given: bool
    stamp: str


def _read_record(path: Path) -> _Record | None:
    record = _record_path(path)
    if not record.is_file():
        return None
    lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
    comment = next((line[1:].strip() for line in lines if line.startswith("#")), "")
    digest = next((line.split()[0].lower() for line in lines if line.strip() and not line.startswith("#")), "")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        msg = f"{record}: expected a SHA-256 of 64 hexadecimal digits, got {digest[:80]!r}"
        raise ValueError(msg)
    return _Record(digest, given=not comment.startswith(_SEEN), stamp=comment.rpartition(": ")[2])


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


@lru_cache(maxsize=8)  # for folders that keep no record
def _hash(path: Path, stamp: str) -> str:  # noqa: ARG001
    digest = hashlib.sha256()
    small = path.stat().st_size < _LARGE
    description = f"SHA-256 of {path.name}"
    with progress.open(path, "rb", description=description, disable=small, console=Console(stderr=True)) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
