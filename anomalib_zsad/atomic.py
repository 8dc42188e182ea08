"""Files written whole or not at all."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

LONGEST_NAME = 255
"""The length of a file name in bytes."""

_UNFINISHED = ".unfinished"
_OURS = f".{'[0-9a-f]' * 8}{_UNFINISHED}"
_STALE_SECONDS = {"file": 3600.0, "folder": 24 * 3600.0}
"""What was not written to for so long belongs to a process that was killed."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` once the block has succeeded.

    A block that fails leaves nothing behind, and a file that was there before stays as it was. What a killed process
    left in the folder is removed by the next one that writes there.

    Args:
        path: The file to write; its folder is made where it is missing. An OSError of the block names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.absolute())
    # In the same folder, because a file is only replaced in one step within one file system. The name is short
    # whatever the file's is, and its suffix is nobody's, so that no reader of the folder takes it for a file of his.
    temporary = path.with_name(f".{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:  # of a full disk: it names no file, or the temporary one
        if error.errno is not None and error.filename in {None, str(temporary)}:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder in `folder`, for files that move on from there; it is removed in any case."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder.absolute())
    temporary = folder / f".{secrets.token_hex(4)}{_UNFINISHED}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_together(files: Sequence[Path], folder: Path) -> None:
    """Move files that belong together into another folder of the file system, over those of the same names.

    A process that is killed in between leaves no last file, rather than one beside others that are not its own. What
    is replaced moves to where the new ones were: deleting it in between would take longer.

    Args:
        files: Those that are only read through the last one, and that one; all from one temporary folder.
        folder: Where they go; made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replaced = files[-1].parent / ".replaced"
    replaced.mkdir()
    for old in (folder / file.name for file in reversed(files)):
        if old.exists():
            old.replace(replaced / old.name)
    for file in files:
        file.replace(folder / file.name)


def write_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture, whole, in the format of the path's suffix.

    Args:
        picture: The picture.
        path: The file.
        **options: Of the format's writer, as in `PIL.Image.Image.save`.

    Raises:
        ValueError: If no format has this suffix.
    """
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        msg = f"expected the suffix of a picture's format, such as .png, got {path}"
        raise ValueError(msg)
    with whole_file(path) as temporary:
        picture.save(temporary, kind, **options)


def shortened(name: str, length: int) -> str:
    """Cut a name to at most `length` bytes, as file systems count."""
    return os.fsencode(name)[:length].decode(errors="ignore")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of the file to an OSError of the block: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@lru_cache(maxsize=4096)  # once a process: looking through a large folder for each of its files would take hours
def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(_OURS):
        with suppress(OSError):  # another process was faster
            age = time.time() - path.stat().st_mtime
            if path.is_dir() and age > _STALE_SECONDS["folder"]:
                shutil.rmtree(path)
            elif path.is_file() and age > _STALE_SECONDS["file"]:
                path.unlink()
