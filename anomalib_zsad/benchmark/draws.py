"""Few-shot detection over several draws of references: the mean of each metric and its deviation."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from anomalib.cli import AnomalibCLI
from rich.console import Console
from rich.table import Table

from anomalib_zsad import arguments as arg
from anomalib_zsad.evaluation.markdown import markdown_table, write_markdown
from anomalib_zsad.evaluation.table import MEAN, METRICS, NOT_POOLED, RANKING, write_csv

logger = logging.getLogger(__name__)


@arg.checked
def repeat_draws(
    arguments: Sequence[str],
    shots: arg.Shots,
    draws: arg.Count,
    folder: Path,
) -> pd.DataFrame:
    """Run `anomalib test` for every number of references and every draw, with one backbone.

    The draws are the model's seeds 0, 1, and so on; zero-shot needs no more than one. After each run the results so
    far are written: `few_shot.csv` with a row for every run and category, `few_shot.md` with the table.

    Args:
        arguments: Those of `anomalib test`.
        shots: Numbers of references.
        draws: Draws for each number.
        folder: Where results go.

    Returns:
        A row a number of references: mean and standard deviation over draws of the means over categories.

    Raises:
        ValueError: If there is nothing to run.
    """
    rows: list[pd.DataFrame] = []
    previous = None  # keeps the backbone alive from run to run, so that it is loaded once
    for shot in shots:
        for draw in range(draws if shot else 1):
            cell = folder / f"{shot}_shot" / f"draw_{draw}"
            logger.info("%d references, draw %d of %d.", shot, draw + 1, draws if shot else 1)
            previous = AnomalibCLI(args=["test", *arguments, *_of_cell(shot, draw, cell)])
            rows.append(previous.model.evaluator.table.assign(shots=shot, draw=draw))
            table = summarise(pd.concat(rows))
            _write(folder, pd.concat(rows), table)
    Console().print(_printed(table))
    return table


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over draws the means over categories; the deviation is that of a sample (n - 1)."""
    means = rows[rows["category"] == MEAN]
    return means.groupby("shots")[list(METRICS)].agg(["mean", "std"])


def _of_cell(shot: int, draw: int, folder: Path) -> list[str]:
    options = {"k_shot": shot, "seed": draw, "visualizer": "false"}
    return [*(f"--model.{name}={value}" for name, value in options.items()), f"--default_root_dir={folder}"]


def _write(folder: Path, rows: pd.DataFrame, table: pd.DataFrame) -> None:
    write_csv(folder / "few_shot.csv", rows)
    lines = markdown_table(["shots", *_metrics(table)], [_cells(table, shot) for shot in table.index])
    write_markdown(folder / "few_shot.md", lines, f"In percent: {NOT_POOLED}; ± over draws.")


def _metrics(table: pd.DataFrame) -> list[str]:
    return [metric for metric in RANKING if table[metric, "mean"].notna().any()]


def _cells(table: pd.DataFrame, shot: int) -> list[str]:
    percent = 100 * table.loc[shot].astype(float)
    pairs = [(percent[metric, "mean"], percent[metric, "std"]) for metric in _metrics(table)]
    return [str(shot), *(f"{mean:.1f} ± {deviation:.1f}".removesuffix(" ± nan") for mean, deviation in pairs)]


def _printed(table: pd.DataFrame) -> Table:
    printed = Table("shots", *_metrics(table), title="mean over categories, mean ± deviation over draws, %")
    for shot in table.index:
        printed.add_row(*_cells(table, shot))
    return printed
