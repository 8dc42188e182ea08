"""The results of finished cells, one file each, so that nothing finished is lost or run twice."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.benchmark.grid import Cell
from anomalib_zsad.evaluation.table import METRICS

COLUMNS = ("model", "target", "category", "shots", "seed", "images", "metric", "value", "note")
CASES = "cases.npz"
"""The best and worst cases of a cell, in its folder; written before its result."""


class Store:
    """Finished and failed cells in a folder.

    Args:
        folder: The benchmark's folder; each cell has `cells/<name>/cell.json` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def folder_of(self, cell: Cell) -> Path:
        """Where a cell's own files are."""
        return self.folder / "cells" / cell.name

    def finish(self, cell: Cell, fingerprint: str, table: pd.DataFrame, seconds: float) -> None:
        """Store the result of a cell.

        Args:
            cell: The cell.
            fingerprint: Of its settings.
            table: A row for every category.
            seconds: What it took.
        """
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        self._write(cell, {"fingerprint": fingerprint, "seconds": seconds, "rows": rows})

    def fail(self, cell: Cell, fingerprint: str, reason: str) -> None:
        """Store the reason why a cell has no result; the next run tries it again."""
        # Another failure of the same reason is another record.
        self._write(cell, {"fingerprint": fingerprint, "failed": reason, "attempt": secrets.token_hex(8)})

    @contextmanager
    def lock(self, cell: Cell, seconds: float) -> Iterator[bool]:
        """Lock a cell; the lock of a process that dies is released.

        Args:
            cell: The cell.
            seconds: How long to wait for another; negative: until it is free.

        Yields:
            Whether it is ours now.
        """
        path = self._lock_path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def is_taken(self, cell: Cell) -> bool:
        """Whether a process runs the cell at this time."""
        if not self._lock_path(cell).is_file():
            return False
        with self.lock(cell, seconds=0) as ours:
            return not ours

    def is_finished(self, cell: Cell, fingerprint: str) -> bool:
        """Whether there is a result with these settings."""
        return "rows" in self.record(cell, fingerprint)

    def seconds(self, cell: Cell, fingerprint: str) -> float | None:
        """The duration of a finished cell."""
        return self.record(cell, fingerprint).get("seconds")

    def reason(self, cell: Cell, fingerprint: str) -> str | None:
        """Why a cell failed, if it did."""
        return self.record(cell, fingerprint).get("failed")

    def rows(self, cell: Cell, fingerprint: str) -> pd.DataFrame:
        """Return a cell's result, tidy: a row for every category and metric that is available."""
        found = [
            (cell.model, cell.target, row["category"], cell.shots, cell.seed, row["images"], metric, row[metric],
             row["note"])
            for row in self.record(cell, fingerprint).get("rows", ())
            for metric in METRICS
            if row.get(metric) is not None
        ]  # fmt: skip
        return pd.DataFrame(found, columns=list(COLUMNS))

    def record(self, cell: Cell, fingerprint: str) -> dict[str, Any]:
        """Read the record of a cell with these settings: `rows`, or why it `failed`; empty without a record."""
        try:
            content = json.loads(self._path(cell).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if content.get("fingerprint") == fingerprint else {}

    def _path(self, cell: Cell) -> Path:
        return self.folder_of(cell) / "cell.json"

    def _lock_path(self, cell: Cell) -> Path:
        return self.folder_of(cell) / "cell.lock"

    def _write(self, cell: Cell, content: dict) -> None:
        with whole_file(self._path(cell)) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
