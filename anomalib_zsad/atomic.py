"""Files written whole or not at all."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

LONGEST_NAME = 255
"""Of a file, in bytes."""

_UNFINISHED = ".unfinished"
_OURS = f".{'[0-9a-f]' * 8}{_UNFINISHED}"
_STALE_SECONDS = 3600.0
"""What was not written to for so long belongs to a process that was killed."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` once the block has succeeded.

    A block that fails leaves nothing behind, and a file that was there before stays as it was. What a killed process
    left in the folder is removed by the next one that writes there.

    Args:
        path: The file to write; its folder is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent.absolute())
    # In the same folder, because a file is only replaced in one step within one file system. The name is short
    # whatever the file's is, and its suffix is nobody's, so that no reader of the folder takes it for a file of his.
    temporary = path.with_name(f".{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


@lru_cache(maxsize=4096)  # once a process: looking through a large folder for each of its files would take hours
def _remove_leftovers(folder: Path) -> None:
    old = time.time() - _STALE_SECONDS
    for path in folder.glob(_OURS):
        with suppress(OSError):  # another process was faster
            if path.stat().st_mtime < old:
                path.unlink()
