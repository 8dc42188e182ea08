"""Running a benchmark: cell after cell, whatever happens to one of them."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd

from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.grid import Benchmark, Cell
from anomalib_zsad.benchmark.pictures import draw_beside, draw_pages
from anomalib_zsad.benchmark.plots import read_curves
from anomalib_zsad.benchmark.report import Pictures, write_report
from anomalib_zsad.benchmark.store import COLUMNS, Store

logger = logging.getLogger(__name__)

Report = tuple[pd.DataFrame, dict[str, str]]
"""Tidy results, and why cells have none, by name."""


def run_benchmark(
    benchmark: Benchmark,
    folder: Path,
    run: Callable[[Cell], pd.DataFrame] | None = None,
    **engine: Any,
) -> Report:
    """Run every cell that has no result yet; after each one the report is written anew.

    A killed run goes on where it was: finished cells count as long as their settings are the same, and a training that
    has ended is not repeated. A cell that fails is recorded with its reason, and the rest goes on.

    Args:
        benchmark: The grid.
        folder: Where everything goes.
        run: Gives a cell's table; `CellRunner` unless told otherwise.
        **engine: Arguments of anomalib's engine.

    Returns:
        The tidy results, and why cells failed, by name.
    """
    store, run = Store(folder), run or CellRunner(benchmark, folder, **engine)
    cells = [(cell, benchmark.fingerprint(cell)) for cell in benchmark.cells()]
    open_cells = [(cell, mark) for cell, mark in cells if not store.is_finished(cell, mark)]
    logger.info("%d of %d cells have a result in %s.", len(cells) - len(open_cells), len(cells), folder)
    started = monotonic()
    for done, (cell, mark) in enumerate(open_cells):
        logger.info(
            "Cell %d of %d: %s. %s", done + 1, len(open_cells), cell.name, _left(done, len(open_cells), started)
        )
        _run_one(run, store, cell, mark)
        _report(store, cells, folder)
    return _report(store, cells, folder, drawn=True)


def _run_one(run: Callable[[Cell], pd.DataFrame], store: Store, cell: Cell, mark: str) -> None:
    started = monotonic()
    try:
        table = run(cell)
    except Exception as error:  # whatever a model or a dataset does must not cost the other cells
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        logger.exception("Cell %s failed.", cell.name)
        store.fail(cell, mark, reason)
    else:
        store.finish(cell, mark, table, monotonic() - started)


def _report(store: Store, cells: list[tuple[Cell, str]], folder: Path, drawn: bool = False) -> Report:
    tables = [table for cell, mark in cells if not (table := store.rows(cell, mark)).empty]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    failures = {cell.name: reason for cell, mark in cells if (reason := store.reason(cell, mark))}
    finished = [(cell, store.folder_of(cell)) for cell, mark in cells if store.is_finished(cell, mark)]
    curves = read_curves([(asdict(cell), path) for cell, path in finished]) if drawn else None
    pictures = Pictures(draw_pages(folder, finished), draw_beside(folder, finished) if drawn else ())
    write_report(folder, rows, failures, curves, pictures)
    return rows, failures


def _left(done: int, total: int, started: float) -> str:
    if not done:
        return ""
    seconds = (monotonic() - started) / done * (total - done)
    return f"About {seconds / 60:.0f} min left." if seconds >= 60 else f"About {seconds:.0f} s left."
