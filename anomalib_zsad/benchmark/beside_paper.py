"""The figures of a benchmark beside the published ones."""

from pathlib import Path

import pandas as pd
from anomalib.models import WinClip

from anomalib_zsad.benchmark.entries import Entry
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.benchmark.published import compare
from anomalib_zsad.benchmark.report import summarise
from anomalib_zsad.evaluation.markdown import markdown_table, write_markdown
from anomalib_zsad.evaluation.table import write_csv

_WORDS = ("name", "setting", "dataset", "metric", "variant", "categories")


def write_comparison(folder: Path, benchmark: Benchmark, rows: pd.DataFrame, paper: str) -> pd.DataFrame:
    """Write `compared_to_<paper>.csv` and `.md`: our means, the published ones and the differences, in percent.

    A target is compared with the dataset of its name, a model with the published method that its class implements, and
    with the `variant` of it that its entry names.

    Args:
        folder: The benchmark's folder.
        benchmark: What was run.
        rows: Tidy results.
        paper: One of `published.PAPERS`.

    Returns:
        The rows that the paper has a figure for, and over how many `categories` our mean is.
    """
    summary = summarise(rows)
    classes = {name: entry.class_path.rsplit(".", 1)[-1] for name, entry in benchmark.models.items()}
    ours = pd.DataFrame(
        {
            "name": summary["model"],
            "model": summary["model"].map(classes),
            "setting": [
                _setting(benchmark.models[name], shots)
                for name, shots in zip(summary["model"], summary["shots"], strict=True)
            ],
            "dataset": summary["target"],
            "metric": summary["metric"],
            "value": summary["mean"],
            "categories": summary["categories"],
        }
    )
    # Several models may be of one class: each is compared for itself.
    found = [_beside(part, benchmark.models[str(name)], paper) for name, part in ours.groupby("name")]
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["name", "published"])
    table = table[table["published"].notna()].set_index("name").reset_index()
    write_csv(folder / f"compared_to_{paper}.csv", table)
    write_markdown(folder / f"compared_to_{paper}.md", *_blocks(table, paper))
    return table


def _beside(ours: pd.DataFrame, entry: Entry, paper: str) -> pd.DataFrame:
    named = ours.drop(columns=["name", "categories"])
    if entry.variant is not None:
        named = named.assign(variant=entry.variant)
    own = ours[["name", "model", "setting", "dataset", "metric", "categories"]]
    return compare(named, paper).merge(own, on=["model", "setting", "dataset", "metric"])


def _setting(entry: Entry, shots: float | None) -> str:
    if pd.isna(shots):
        return "0-shot" if entry.is_zero_shot or issubclass(entry.model_class, WinClip) else "full-shot"
    return f"{int(shots)}-shot"


def _blocks(table: pd.DataFrame, paper: str) -> list[str]:
    if table.empty:
        return [f"The paper {paper} prints no figure for what was run."]
    lines = []
    for row in table.to_dict("records"):
        numbers = [f"{row['ours']:.1f}", f"{row['published']:.1f}", f"{row['difference']:+.1f}"]
        lines.append([str(row[name] or "") for name in _WORDS] + numbers)
    note = f"In percent, mean over as many categories as stand there. Published: {paper}, as printed."
    return [note, markdown_table(["model", *_WORDS[1:], "ours", "published", "difference"], lines)]
