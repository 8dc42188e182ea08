"""The figures of a benchmark beside those that a paper prints."""

from pathlib import Path

import pandas as pd

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.benchmark.report import summarise
from anomalib_zsad.evaluation.published import compare
from anomalib_zsad.evaluation.table import write_csv


def write_comparison(folder: Path, benchmark: Benchmark, rows: pd.DataFrame, paper: str) -> pd.DataFrame:
    """Write `compared_to_<paper>.csv` and `.md`: our means, the published ones and the differences, in percent.

    A target is compared with the dataset of its name, a model with the published method that its class implements.

    Args:
        folder: The benchmark's folder.
        benchmark: What was run.
        rows: Tidy results.
        paper: One of `published.PAPERS`.

    Returns:
        The rows that the paper has a figure for.
    """
    summary = summarise(rows)
    classes = {name: entry.class_path.rsplit(".", 1)[-1] for name, entry in benchmark.models.items()}
    ours = pd.DataFrame(
        {
            "name": summary["model"],
            "model": summary["model"].map(classes),
            "setting": [f"{0 if pd.isna(shots) else int(shots)}-shot" for shots in summary["shots"]],
            "dataset": summary["target"],
            "metric": summary["metric"],
            "value": summary["mean"],
        }
    )
    # Several models may be of one class: each is compared for itself.
    found = [compare(part.drop(columns="name"), paper).assign(name=name) for name, part in ours.groupby("name")]
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["name", "published"])
    table = table[table["published"].notna()].set_index("name").reset_index()
    write_csv(folder / f"compared_to_{paper}.csv", table)
    with whole_file(folder / f"compared_to_{paper}.md") as temporary:
        temporary.write_text(_markdown(table, paper), encoding="utf-8")
    return table


def _markdown(table: pd.DataFrame, paper: str) -> str:
    if table.empty:
        return f"The paper {paper} prints no figure for what was run.\n"
    lines = [["model", "setting", "dataset", "metric", "variant", "ours", "published", "difference"]]
    lines.append(["---"] * len(lines[0]))
    for row in table.to_dict("records"):
        numbers = [f"{row['ours']:.1f}", f"{row['published']:.1f}", f"{row['difference']:+.1f}"]
        lines.append([str(row[name] or "") for name in ("name", "setting", "dataset", "metric", "variant")] + numbers)
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"In percent, mean over categories. Published: {paper}, as printed.\n\n{rows}\n"
