"""Answers as they come, so that an interrupted build asks nothing twice."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_KEY = "key"


class Journal:
    """A file with one answer a line.

    Args:
        path: The file; read where it is there. A last line that was cut off counts for nothing.

    Raises:
        ValueError: If the file is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, dict[str, Any]] = {}
        *lines, self._tail = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate([*lines, self._tail], start=1):
            record = _record(line)
            if record:
                self._answers[record["key"]] = record
            elif line and (number <= len(lines) or not _is_torn(line)):
                msg = f"{path}, line {number}: expected an answer of an earlier build; move the file away to start anew"
                raise ValueError(msg)

    def get(self, key: str) -> dict[str, Any] | None:
        """Find the answer to a question; None where it was not answered yet."""
        return self._answers.get(key)

    def add(self, key: str, **answer: Any) -> dict[str, Any]:
        """Keep an answer, on the disk when this returns."""
        record = {_KEY: key, **answer}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._end_last_line()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._answers[key] = record
        return record

    def _end_last_line(self) -> None:
        if not self._tail:
            return
        if _record(self._tail):
            with self.path.open("ab") as file:
                file.write(b"\n")
        else:
            os.truncate(self.path, self.path.stat().st_size - len(self._tail))
        self._tail = b""


def key_of(*parts: object) -> str:
    """Name a question: everything that an answer depends on goes in."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = {_KEY: str, "content": str, "thinking": str, "complete": bool}
    is_answer = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in fields.items())
    return record if is_answer else None


def _is_torn(line: bytes) -> bool:
    """Tell whether a line is the beginning of an answer, rather than somebody's text."""
    start = json.dumps({_KEY: ""})[:-2].encode()
    return line.startswith(start[: len(line)])
