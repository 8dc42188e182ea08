"""Answers are recorded as they arrive, so that an interrupted build asks no question twice."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from anomalib_zsad.atomic import naming

_KEY = "key"
_START = json.dumps({_KEY: ""})[:-2].encode()


class Journal:
    """A file with one answer a line, to which several builds may add at a time.

    Args:
        path: The file; read where it is there. A line that was cut off counts for nothing, but for a whole answer that
            another build wrote behind it.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
            record = _record(line)
            if record:
                self._answers[record[_KEY]] = record
            elif not _is_torn(line):
                msg = f"{path}, line {number}: expected an answer of an earlier build; move the file away to start anew"
                raise ValueError(msg)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the answer to a question; None if it was not answered yet."""
        return self._answers.get(key)

    def add(self, key: str, **answer: Any) -> dict[str, Any]:
        """Keep an answer, on the disk when this returns.

        Raises:
            OSError: If it cannot be written; what is left of its line is ignored.
        """
        record = {_KEY: key, **answer}
        with naming(self.path):
            self._append(json.dumps(record).encode())
        self._answers[key] = record
        return record

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Only ever at the end, and on a line of its own whatever was cut off before: nothing of others is changed.
        with self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
            start = b"" if file.read(1) in {b"", b"\n"} else b"\n"
            file.write(start + line + b"\n")
            file.flush()
            os.fsync(file.fileno())


def key_of(*parts: object) -> str:
    """Derive the key of a question from everything that its answer depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def _record(line: bytes) -> dict[str, Any] | None:
    """Read the answer at the end of a line: before it may be what another build could not finish."""
    try:
        record = json.loads(line[max(line.rfind(_START), 0) :])
    except (ValueError, RecursionError):
        return None
    fields = {_KEY: str, "content": str, "thinking": str, "complete": bool}
    is_answer = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in fields.items())
    return record if is_answer else None


def _is_torn(line: bytes) -> bool:
    """Return whether a line is an incomplete answer or left by a power failure, and not another text."""
    text = line.strip(b"\0\r")
    return text.startswith(_START[: len(text)])
