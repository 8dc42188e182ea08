"""Running a benchmark: one cell after the other or several at a time, whatever happens to one of them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
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

Marked = tuple[Cell, str]
"""A cell and the fingerprint of its settings."""


def run_benchmark(
    benchmark: Benchmark,
    folder: Path,
    run: Callable[[Cell], pd.DataFrame] | None = None,
    **engine: Any,
) -> Report:
    """Run every cell that has no result yet; after each one the report is written anew.

    A killed run goes on where it was: finished cells count as long as their settings are the same, and a training that
    has ended is not repeated. A cell that fails is recorded with its reason, and the rest goes on.

    Where the benchmark's launcher runs several jobs at a time, a job is a training with all its cells, or a cell that
    has none in common with others. Whoever runs it keeps its results in the folder, which all machines must share.

    Args:
        benchmark: The grid.
        folder: Where everything goes.
        run: Gives a cell's table; `CellRunner` unless told otherwise.
        **engine: Arguments of anomalib's engine.

    Returns:
        The tidy results, and why cells failed, by name.
    """
    launcher = benchmark.launcher
    quiet = {"enable_progress_bar": False} if launcher.jobs > 1 else {}
    store, run = Store(folder), run or CellRunner(benchmark, folder, **{**quiet, **engine})
    cells = [(cell, benchmark.fingerprint(cell)) for cell in benchmark.cells()]
    open_cells = [(cell, mark) for cell, mark in cells if not store.is_finished(cell, mark)]
    logger.info("%d of %d cells have a result in %s.", len(cells) - len(open_cells), len(cells), folder)
    started, done = monotonic(), 0
    # Ensembles at the end, since they take what the others train.
    mixed = [each for each in open_cells if benchmark.models[each[0].model].members]
    alone = [each for each in open_cells if each not in mixed]
    work = partial(_run_job, run, store)
    for job, lost in chain.from_iterable(launcher.run(work, _jobs(benchmark, part)) for part in (alone, mixed)):
        for cell, mark in job:
            if lost and not store.is_finished(cell, mark):
                store.fail(cell, mark, lost)
        done += len(job)
        _report(store, cells, folder)
        logger.info("%d of %d cells are done.%s", done, len(open_cells), _left(done, len(open_cells), started))
    return _report(store, cells, folder, drawn=True)


def _jobs(benchmark: Benchmark, cells: Sequence[Marked]) -> list[list[Marked]]:
    """Keep the cells of one training together where jobs run at the same time, so that it is not run twice."""
    if benchmark.launcher.jobs == 1:
        return [[each] for each in cells]
    jobs: dict[str, list[Marked]] = {}
    for cell, mark in cells:
        training = benchmark.training_of(cell)
        jobs.setdefault(f"cell {cell.name}" if training is None else f"training {training}", []).append((cell, mark))
    return list(jobs.values())


def _run_job(run: Callable[[Cell], pd.DataFrame], store: Store, job: Sequence[Marked]) -> None:
    for cell, mark in job:
        logger.info("Cell %s begins.", cell.name)
        _run_one(run, store, cell, mark)


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


def _report(store: Store, cells: Sequence[Marked], folder: Path, drawn: bool = False) -> Report:
    tables = [table for cell, mark in cells if not (table := store.rows(cell, mark)).empty]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    failures = {cell.name: reason for cell, mark in cells if (reason := store.reason(cell, mark))}
    finished = [(cell, store.folder_of(cell)) for cell, mark in cells if store.is_finished(cell, mark)]
    curves = read_curves([(asdict(cell), path) for cell, path in finished]) if drawn else None
    pictures = Pictures(draw_pages(folder, finished), draw_beside(folder, finished) if drawn else ())
    write_report(folder, rows, failures, curves, pictures)
    return rows, failures


def _left(done: int, total: int, started: float) -> str:
    if done == total:
        return ""
    seconds = (monotonic() - started) / done * (total - done)
    return f" About {seconds / 60:.0f} min left." if seconds >= 60 else f" About {seconds:.0f} s left."
