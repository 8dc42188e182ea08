"""The tables of a benchmark: tidy for programs, Markdown for people."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from anomalib_zsad.benchmark.paired import paired_tests
from anomalib_zsad.benchmark.plots import plot_bars, plot_curves, row_name
from anomalib_zsad.evaluation.extra import extra
from anomalib_zsad.evaluation.markdown import markdown_table, write_markdown
from anomalib_zsad.evaluation.table import NOT_POOLED, RANKING, write_csv
from anomalib_zsad.printing import printable


@dataclass(frozen=True)
class Pictures:
    """Where pictures are in the benchmark's folder.

    Args:
        pages: Of every page of best and worst cases its target, its name and its path.
        beside: Of every page with the detectors beside one another its target and its path.
        plots: Bars and curves of all targets.
    """

    pages: Sequence[tuple[str, str, Path]] = ()
    beside: Sequence[tuple[str, Path]] = ()
    plots: Sequence[Path] = ()


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Average each metric over categories, then over seeds: never over pooled images.

    Args:
        rows: Tidy results (`store.COLUMNS`).

    Returns:
        A row for each model, target, number of references and metric: `mean` and `std` over seeds (of a sample, n - 1)
        of the mean over categories, how many `seeds` and `categories` there are.
    """
    by = ["target", "model", "shots", "metric"]
    per_seed = rows.groupby([*by, "seed"], dropna=False, sort=False)["value"].agg(["mean", "count"]).reset_index()
    grouped = per_seed.groupby(by, dropna=False, sort=False)
    summary = grouped.agg(
        mean=("mean", "mean"), std=("mean", "std"), seeds=("mean", "size"), categories=("count", "min")
    )
    return summary.reset_index()


def write_report(
    folder: Path,
    rows: pd.DataFrame,
    failures: dict[str, str],
    curves: pd.DataFrame | None = None,
    pictures: Pictures = Pictures(),  # frozen
) -> None:
    """Write `results.csv`, a row for every category, seed and metric, `summary.csv`, its means, and `results.md`.

    Args:
        folder: The benchmark's folder.
        rows: Tidy results.
        failures: Why cells have none, by name.
        curves: As for `plots.plot_curves`; with them `bars.png` and `curves.png` are drawn, and `paired_tests.csv`
            compares the detectors (`paired`).
        pictures: What `results.md` shows and links besides.
    """
    write_csv(folder / "results.csv", rows)
    names = {"mean": "mean_over_categories", "std": "std_over_seeds"}
    write_csv(folder / "summary.csv", summarise(rows).rename(columns=names))
    if curves is not None:
        write_csv(folder / "paired_tests.csv", paired_tests(rows))
        plots = [folder / "bars.png", folder / "curves.png"]
        with extra("all results"):
            plot_bars(summarise(rows), plots[0])
            plot_curves(curves, plots[1])
        pictures = replace(pictures, plots=[Path(path.name) for path in plots if path.is_file()])
    write_markdown(folder / "results.md", *page(summarise(rows), failures, pictures))


def page(
    summary: pd.DataFrame,
    failures: dict[str, str],
    pictures: Pictures = Pictures(),  # frozen
) -> list[str]:
    """Lay out `results.md`: a table for each target, a row for each model, in percent, mean ± deviation over seeds.

    Returns:
        Blocks of Markdown.
    """
    blocks = [f"In percent: {NOT_POOLED}; mean ± deviation over seeds, or draws of references."]
    for target, part in summary.groupby("target", sort=False):
        blocks += _blocks(str(target), part, pictures)
    if failures:
        lines = "\n".join(f"- {printable(name)}: {printable(reason)}" for name, reason in failures.items())
        blocks += ["## Failed", lines]
    if pictures.plots:
        blocks += ["## Plots", *(f"![{path.stem}](<{path.as_posix()}>)" for path in pictures.plots)]
    return blocks


def _blocks(target: str, part: pd.DataFrame, pictures: Pictures) -> list[str]:
    metrics = [metric for metric in RANKING if metric in set(part["metric"])]
    most = part["categories"].max()
    lines = []
    for (model, shots), rows in part.groupby(["model", "shots"], dropna=False, sort=False):
        cells = {row["metric"]: _cell(row, most) for row in rows.to_dict("records")}
        lines.append([row_name(model, shots), *(cells.get(metric, "-") for metric in metrics)])
    table = markdown_table(["model", *metrics], lines)
    return [f"## {target} ({most} categories)", table, *_pictures(target, pictures)]


def _pictures(target: str, pictures: Pictures) -> list[str]:
    # In angle brackets, since names of models and targets have spaces.
    shown = [f"![{target}, beside one another](<{path.as_posix()}>)" for of, path in pictures.beside if of == target]
    links = [f"[{name}](<{path.as_posix()}>)" for of, name, path in pictures.pages if of == target]
    return [*shown, *([f"Best and worst cases, false alarms: {'; '.join(links)}"] if links else [])]


def _cell(row: dict, most: int) -> str:
    deviation = "" if pd.isna(row["std"]) else f" ± {100 * row['std']:.1f}"
    partial = "" if row["categories"] == most else f" ({row['categories']} of {most})"
    return f"{100 * row['mean']:.1f}{deviation}{partial}"
