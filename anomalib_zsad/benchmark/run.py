"""Runs a benchmark: one cell after the other or several at a time; a failed cell does not stop the others."""

import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import pandas as pd
import yaml

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.child_process import PYTHON, TAKEN, Ended, run_command
from anomalib_zsad.benchmark.grid import Benchmark, Cell
from anomalib_zsad.benchmark.launch import Job
from anomalib_zsad.benchmark.pictures import draw_beside, draw_pages
from anomalib_zsad.benchmark.plots import read_curves
from anomalib_zsad.benchmark.report import Pictures, write_report
from anomalib_zsad.benchmark.schedule import Schedule, Task, plan
from anomalib_zsad.benchmark.store import COLUMNS, Store

logger = logging.getLogger(__name__)

Report = tuple[pd.DataFrame, dict[str, str]]
"""Tidy results, and why cells have none, by name."""

Marked = tuple[Cell, str]
"""A cell and the fingerprint of its settings."""

COMMAND = (PYTHON, "-m", "anomalib_zsad")

_QUIET = {"enable_progress_bar": False}
_PATIENCE = 2.0
"""Seconds: a process that only checks whether a cell is taken is done by then."""


def run_benchmark(
    benchmark: Benchmark,
    folder: Path,
    run: Callable[[Cell], pd.DataFrame] | None = None,
    accelerator: str = "auto",
    command: Sequence[str] = COMMAND,
) -> Report:
    """Run every cell that has no result yet; after each one the report is written anew.

    A cell is a command of its own, which the launcher's engine starts on this machine or another; it counts when its
    record is read back from the folder, which all machines must share under one path. A cell that fails is recorded
    with its reason, one that is killed is tried once more before, and the rest goes on. A killed run goes on where it
    was: finished cells count as long as their settings are the same, and a training that has ended is not repeated.
    Several benchmarks on one folder share the cells.

    Args:
        benchmark: The grid.
        folder: Where everything goes.
        run: Gives a cell's table, in this process, one after the other, whatever the launcher says: a `CellRunner`,
            for instance. None: commands.
        accelerator: Of the trainer, for commands.
        command: What runs `benchmark -c FILE --out FOLDER --cell NAME`.

    Returns:
        The tidy results, and why cells failed, by name.
    """
    store = Store(folder.absolute())
    cells = [(cell, benchmark.fingerprint(cell)) for cell in benchmark.cells()]
    tasks = plan(benchmark, store)
    logger.info("%d of %d cells have a result in %s.", len(cells) - len(tasks), len(cells), store.folder)
    started = monotonic()
    submit: Callable[[Task], Job] = _nowhere
    with ExitStack() as stack:
        if run is not None:
            submit = _here(benchmark, store, run)
        elif tasks:
            submit = stack.enter_context(_elsewhere(benchmark, store.folder, [*command], accelerator))
        limit = benchmark.launcher.limit if run is None else 1
        settled = stack.enter_context(closing(Schedule(tasks, store, submit, limit).settled()))
        failed = 0
        for done, task in enumerate(settled, start=1):
            failed += store.reason(task.cell, task.fingerprint) is not None
            _report(store, cells)
            failures = f", {failed} of them without a result" if failed else ""
            logger.info("%d of %d cells are done%s.%s", done, len(tasks), failures, _left(done, len(tasks), started))
    return _report(store, cells, drawn=True)


def run_cell(
    benchmark: Benchmark,
    folder: Path,
    cell: Cell,
    run: Callable[[Cell], pd.DataFrame],
    patience: float = _PATIENCE,
) -> int:
    """Run one cell and store its result, or the reason why it has none, unless another process runs it.

    Args:
        benchmark: The grid.
        folder: As for `run_benchmark`.
        cell: The cell. Members of an ensemble that are tested with it are run first where they have no record.
        run: As for `run_benchmark`.
        patience: Seconds to wait for a process that runs the cell; negative: until it ends.

    Returns:
        An exit status: 0 if there is a result, 1 if there is none, `TAKEN` if another process runs the cell.
    """
    store, mark = Store(folder), benchmark.fingerprint(cell)
    with store.lock(cell, patience) as ours:
        if not ours:
            logger.info("Cell %s is run by another process.", cell.name)
            return TAKEN
        if store.is_finished(cell, mark):
            return 0
        for name in benchmark.models[cell.model].members:
            member = benchmark.member_of(cell, name)
            if member.category and not store.record(member, benchmark.fingerprint(member)):
                run_cell(benchmark, folder, member, run, patience=-1)
        logger.info("Cell %s begins.", cell.name)
        return _run_one(run, store, cell, mark)


def run_named_cell(benchmark: Benchmark, folder: Path, name: str, accelerator: str = "auto") -> int:
    """Run the cell of a name, in this process.

    Returns:
        As `run_cell`.

    Raises:
        ValueError: If there is none of that name.
    """
    found = [cell for cell in benchmark.cells() if cell.name == name]
    if not found:
        msg = f"--cell: expected one of the names that --list-cells prints on this machine, got {name}"
        raise ValueError(msg)
    return run_cell(benchmark, folder, found[0], CellRunner(benchmark, folder, accelerator=accelerator, **_QUIET))


def _run_one(run: Callable[[Cell], pd.DataFrame], store: Store, cell: Cell, mark: str) -> int:
    started = monotonic()
    try:
        table = run(cell)
    except Exception as error:  # whatever a model or a dataset does must not cost the other cells
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        logger.exception("Cell %s failed.", cell.name)
        store.fail(cell, mark, reason)
        return 1
    store.finish(cell, mark, table, monotonic() - started)
    return 0


def _nowhere(task: Task) -> Job:
    raise AssertionError(task)


def _here(benchmark: Benchmark, store: Store, run: Callable[[Cell], pd.DataFrame]) -> Callable[[Task], Job]:
    def submit(task: Task) -> Job:
        job = Future[Ended]()
        job.set_result(Ended(run_cell(benchmark, store.folder, task.cell, run), "", "this machine"))
        return job

    return submit


@contextmanager
def _elsewhere(
    benchmark: Benchmark, folder: Path, command: list[str], accelerator: str
) -> Iterator[Callable[[Task], Job]]:
    launcher = benchmark.launcher
    threads = None if launcher.backend != "local" or launcher.limit == 1 else _processors() // int(launcher.limit) or 1
    with launcher.engine(folder) as engine, _written(benchmark, folder) as config:

        def submit(task: Task) -> Job:
            given = ["-c", str(config), "--out", str(folder), "--accelerator", accelerator, "--cell", task.cell.name]
            words = [*command, "benchmark", *given, "--end-with-parent"]
            return engine.submit(run_command, words, str(Path.cwd()), str(config), threads)

        yield submit


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _written(benchmark: Benchmark, folder: Path) -> Iterator[Path]:
    """Keep the configuration in a file while the benchmark runs: commands end when the file is gone."""
    path = folder / "running" / f"{secrets.token_hex(8)}.yaml"
    plain = json.loads(json.dumps(asdict(benchmark), default=str))  # as the fingerprint takes it
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _report(store: Store, cells: Sequence[Marked], drawn: bool = False) -> Report:
    folder = store.folder
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
