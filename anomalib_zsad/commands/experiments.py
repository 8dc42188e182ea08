"""The commands that train and test: `few-shot`, `benchmark`, `demo`."""

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from anomalib_zsad.commands.typed import command

Paper = Literal["acdclip", "afclip", "anomalyclip", "kanoclip", "wmoeclip"]


@command("few-shot", names={"arguments": "-- ARGUMENTS"})
def few_shot(
    arguments: Sequence[str],
    *,
    shots: Sequence[int] = (0, 1, 2, 4),
    draws: int = 5,
    out: Path = Path("few_shot"),
) -> int:
    """Test with several numbers of references, each over several draws: mean and deviation of every metric.

    Args:
        arguments: those of `anomalib test`
        shots: numbers of references
        draws: draws of references for each
        out: folder for the results
    """
    from anomalib_zsad.benchmark.draws import repeat_draws

    with logged_to_stderr("anomalib_zsad.benchmark"):
        repeat_draws(arguments, shots, draws, out)
    print(f"every run and category: {out / 'few_shot.csv'}, the table: {out / 'few_shot.md'}")
    return 0


@command(
    "benchmark",
    names={"config": "-c --config", "list_cells": "--list-cells", "end_with_parent": "--end-with-parent"},
    groups={
        "the whole grid": ("out", "accelerator", "jobs", "compare"),
        "one cell (not both)": ("list_cells", "cell"),
    },
    hidden=("end_with_parent",),
)
def benchmark(
    *,
    config: Path,
    out: Path | None = None,
    accelerator: str = "auto",
    jobs: int | None = None,
    compare: Paper | None = None,
    list_cells: bool = False,
    cell: str | None = None,
    end_with_parent: bool = False,
) -> int:
    """Run a grid of models, datasets, references and seeds; a killed run goes on where it was.

    Args:
        config: a YAML file, as in configs/benchmark
        out: folder for the results (default: results/benchmark/<name of the config>)
        accelerator: of the trainer
        jobs: cells at a time (default: the config's launcher; 1 on this machine)
        compare: put the figures of this paper beside ours
        list_cells: print the names of all cells and run none
        cell: name of a cell: run it alone, here, no tables (exit status 75: another process runs it)
        end_with_parent: end with the process that started this one
    """
    if end_with_parent:
        from anomalib_zsad.benchmark.child_process import end_with_parent as follow_parent

        follow_parent()
    if list_cells and cell is not None:
        msg = "--list-cells and --cell exclude each other"
        raise ValueError(msg)
    with _ended_by_sigterm():
        return _benchmark(config, out, accelerator, jobs, compare, list_cells, cell)


@command("demo")
def demo(*, out: Path = Path("demo"), seed: int = 0) -> int:
    """Train, test and predict on drawn pictures with a small CLIP that comes along: a few minutes, no network.

    Args:
        out: folder for the results
        seed: of the pictures and of the training
    """
    from anomalib_zsad.synthetic.demo import run_demo

    run_demo(out, seed)
    return 0


def _benchmark(
    config: Path,
    out: Path | None,
    accelerator: str,
    jobs: int | None,
    compare: str | None,
    list_cells: bool,
    cell: str | None,
) -> int:
    from dataclasses import replace

    from lightning.pytorch.accelerators import AcceleratorRegistry

    from anomalib_zsad.arguments import check_choice
    from anomalib_zsad.benchmark.beside_paper import write_comparison
    from anomalib_zsad.benchmark.config_file import read_benchmark
    from anomalib_zsad.benchmark.run import run_benchmark, run_named_cell

    check_choice("--accelerator", accelerator, ("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())))
    folder = out or Path("results", "benchmark", config.stem)
    grid = read_benchmark(config)
    if list_cells:
        print("\n".join(cell.name for cell in grid.cells()))
        return 0
    with logged_to_stderr("anomalib_zsad.benchmark"):
        if cell is not None:
            return run_named_cell(grid, folder, cell, accelerator)
        if jobs is not None:
            grid.launcher = replace(grid.launcher, jobs=jobs)
        rows, failures = run_benchmark(grid, folder, accelerator=accelerator)
    print((folder / "results.md").read_text(encoding="utf-8"))
    if compare:
        write_comparison(folder, grid, rows, compare)
        print((folder / f"compared_to_{compare}.md").read_text(encoding="utf-8"))
    print(f"every category, seed and metric: {folder / 'results.csv'}, the table: {folder / 'results.md'}")
    return 1 if failures else 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end what runs as an error would, with the status that a shell gives to it."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def logged_to_stderr(name: str) -> Iterator[None]:
    """Show the progress that a logger reports; anomalib and Lightning show only their own."""
    handler, logger = logging.StreamHandler(), logging.getLogger(name)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
