"""The table of results: a row per category and their mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.functional.curves import RATES
from anomalib_zsad.printing import cells, printable, shown

RANKING = (
    "image_AUROC",
    "image_AP",
    "image_F1Max",
    "pixel_AUROC",
    "pixel_AP",
    "pixel_F1Max",
    "pixel_AUPRO",
    "pixel_AUPRO_200",
)
"""Metrics of raw scores, whatever the threshold; what papers print."""
AT_THRESHOLD = tuple(f"{level}_{name}" for level in ("image", "pixel") for name in ("F1Score", "Precision", "Recall"))
"""Metrics of the decisions at the fitted threshold: what a user will get."""
METRICS = (*RANKING, *AT_THRESHOLD)
MEAN = "mean"
NOT_POOLED = "mean over categories, which count alike; not of pooled images"
_COLUMNS = ("category", "images", "anomalous images", *METRICS, "note")


@dataclass
class CategoryResult:
    """The numbers of one category.

    Args:
        images: How many there are.
        anomalous: How many of them are anomalous.
        values: The metrics that make sense for this data, by name.
        notes: Why the others do not, and what else must be known to read the row.
        curves: For plots: image_ROC, pixel_ROC and pixel_PRO, as far as they make sense, at `functional.curves.RATES`.
        resampled: For intervals: metrics of images drawn with replacement, where intervals are computed.
    """

    images: int
    anomalous: int
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    curves: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    resampled: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def results_table(results: Mapping[str, CategoryResult]) -> pd.DataFrame:
    """Build the table: categories by name, then the mean over those categories that have the value.

    Args:
        results: By category. One that is called as the mean's row is not taken for it.
    """
    rows = [
        {
            "category": f"{MEAN} (category)" if name == MEAN else printable(name),
            "images": result.images,
            "anomalous images": result.anomalous,
            **result.values,
            "note": "; ".join(result.notes),
        }
        for name, result in sorted(results.items())
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    table[list(METRICS)] = table[list(METRICS)].astype(float)
    counted = table[list(METRICS)].count()
    notes = [NOT_POOLED] if len(table) > 1 else []
    notes += [
        f"{', '.join(counted.index[counted == count])} over {count} of {len(table)} categories"
        for count in sorted(set(counted) - {0, len(table)})
    ]
    mean = {
        "category": MEAN,
        "images": table["images"].sum(),
        "anomalous images": table["anomalous images"].sum(),
        **table[list(METRICS)].mean(),
        "note": "; ".join(notes),
    }
    return pd.concat([table, pd.DataFrame([mean])], ignore_index=True)


def mean_values(table: pd.DataFrame) -> dict[str, float]:
    """Return the means that are available, by metric."""
    last = table.iloc[-1]
    return {name: float(last[name]) for name in METRICS if not math.isnan(last[name])}


def printed_tables(table: pd.DataFrame) -> list[Table]:
    """Lay the table out for a terminal: metrics of the scores, with the notes under them, then of the decisions."""
    notes = [shown(f"{name}: {note}") for name, note in zip(table["category"], table["note"], strict=True) if note]
    printed = [_printed(table, ("images", "anomalous images"), RANKING)]
    printed[0].caption, printed[0].caption_justify = Text("\n").join(notes) if notes else None, "left"
    if table[list(AT_THRESHOLD)].notna().any(axis=None):
        printed.append(_printed(table, (), AT_THRESHOLD))
        printed[1].title, printed[1].title_justify = "Decisions at the model's thresholds", "left"
    return printed


def _printed(table: pd.DataFrame, counts: Sequence[str], metrics: Sequence[str]) -> Table:
    printed = Table()
    printed.add_column("category")
    for name in (*counts, *metrics):
        printed.add_column(name.replace("_", "\n", 1).replace(" ", "\n"), justify="right")
    last = table["category"].iloc[-2]
    for row in table.to_dict("records"):
        values = ["-" if math.isnan(row[name]) else f"{row[name]:.4f}" for name in metrics]
        first = [shown(row[name]) for name in ("category", *counts)]
        printed.add_row(*first, *values, end_section=row["category"] == last)
    return printed


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table; numbers keep every digit of a 32-bit float, and what is not available stays empty."""
    with whole_file(path) as temporary:
        cells(table).to_csv(temporary, index=False, float_format="%.9g")


def scores_table(rows: Sequence[tuple[str, str, str, float]]) -> pd.DataFrame:
    """Build the table of single images: path, category, label and raw score."""
    # Written out at once: with pyarrow, pandas holds no text that is no UTF-8.
    texts = [(printable(path), printable(category), *rest) for path, category, *rest in rows]
    return pd.DataFrame(texts, columns=["path", "category", "label", "score"])


def curves_table(results: Mapping[str, CategoryResult]) -> pd.DataFrame:
    """Build the table of curves: category, curve, false positive rate, value."""
    rows = [
        pd.DataFrame({"category": printable(name), "curve": curve, "fpr": RATES, "value": values})
        for name, result in sorted(results.items())
        for curve, values in result.curves.items()
    ]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["category", "curve", "fpr", "value"])
