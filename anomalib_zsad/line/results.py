"""The rows of a line: JSON lines that are on the disk before the next image is scored, and the same as CSV."""

import csv
import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from anomalib_zsad.atomic import naming, whole_file
from anomalib_zsad.printing import cell


class Row(BaseModel):
    """What is known of one image."""

    model_config = ConfigDict(frozen=True)

    number: int
    """From 1, in the order of scoring."""
    time: str
    """When it was scored, ISO 8601 with the offset of the time zone."""
    image: str
    """Its path below the watched folder; a frame's video or camera and number."""
    score: float | None = None
    """0.5 is the threshold."""
    label: str | None = None
    """normal or anomalous."""
    p_value: float | None = None
    """null: the model is not calibrated."""
    drift: float | None = None
    """p-value of the drift test where this image completed a window that has drifted."""
    error: str | None = None
    """Why there is no score."""
    picture: str | None = None
    """The picture, relative to the folder of the results."""
    seconds: float | None = None
    """The time that scoring took."""
    model: str = ""
    """Digest of the model that scored it."""
    identity: list[int] | None = None
    """What distinguishes a file or frame from another one of the same name."""


_BLOCK = 65536

COLUMNS = [name for name in Row.model_fields if name != "identity"]


class Results:
    """`results.jsonl` and `results.csv` in a folder, to which one process at a time adds.

    The JSON lines are the journal: a row counts once its line is on the disk, and what a killed process left of a line
    does not count. The CSV is made anew of them at each start.

    Args:
        folder: Made where it is missing.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If another process writes there, or the journal is damaged.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.journal, self.table = folder / "results.jsonl", folder / "results.csv"
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            msg = f"{folder}: another process writes its results there: expected a folder of one process (--out)"
            raise ValueError(msg) from None
        self._lines: BinaryIO | None = None
        self._cells: TextIO | None = None

    def earlier(self) -> Iterator[Row]:
        """Yield the rows of earlier runs, and open both files for further ones. To be exhausted before `add`."""
        _cut_off_torn_line(self.journal)
        with whole_file(self.table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            if self.journal.exists():
                with self.journal.open("rb") as lines:
                    for number, line in enumerate(lines, start=1):
                        row = _row(line, f"{self.journal}, line {number}")
                        writer.writerow(_cells(row))
                        yield row
        self._lines = self.journal.open("ab", buffering=0)
        self._cells = self.table.open("a", encoding="utf-8", newline="")
        _sync_folder(self.journal.parent)

    def add(self, row: Row) -> None:
        """Write a row; it is on the disk when this returns.

        Raises:
            OSError: If it cannot be written; it does not count then.
        """
        assert self._lines is not None
        assert self._cells is not None
        with naming(self.journal):
            _append(self._lines, row.model_dump_json().encode() + b"\n")
        with naming(self.table):
            csv.writer(self._cells).writerow(_cells(row))
            self._cells.flush()

    def close(self) -> None:
        """Close both files, and let other processes write there."""
        for file in (self._lines, self._cells):
            if file is not None:
                with suppress(OSError):  # a full disk was reported already
                    file.close()
        self._lock.release()


def _append(file: BinaryIO, line: bytes) -> None:
    """Write a line that is on the disk when this returns; one that does not fit is removed whole."""
    end = file.seek(0, os.SEEK_END)
    try:
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(end)
        raise


def _cut_off_torn_line(path: Path) -> None:
    """Remove what a killed process left of its last line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end
        while whole:
            start = max(0, whole - _BLOCK)
            file.seek(start)
            found = file.read(whole - start).rfind(b"\n")
            if found >= 0:
                whole = start + found + 1
                break
            whole = start
        if whole < end:
            file.truncate(whole)
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the names of new files to the disk; systems other than POSIX do not need it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _row(line: bytes, where: str) -> Row:
    try:
        return Row.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"]
        msg = f"{where}: expected the results of an earlier run, got {line[:40]!r} ({fault}); give another --out"
        raise ValueError(msg) from None


def _cells(row: Row) -> list[str]:
    values = (getattr(row, name) for name in COLUMNS)
    return ["" if value is None else cell(value) if isinstance(value, str) else f"{value:.9g}" for value in values]
