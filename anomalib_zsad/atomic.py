"""Files written whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` once the block has succeeded.

    A block that fails leaves nothing behind, and a file that was there before stays as it was.

    Args:
        path: The file to write; its folder is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a file is only replaced in one step within one file system; with the same suffix,
    # because writers choose their format by it.
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
