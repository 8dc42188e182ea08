"""Pictures of a benchmark: bars for each target, ROC and PRO curves."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.printing import printable

BARS = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")
_CURVES = {
    "image_ROC": ("Images", "true positive rate", 1.0),
    "pixel_ROC": ("Pixels", "true positive rate", 1.0),
    "pixel_PRO": ("Regions", "overlap", 0.3),
}
"""Title, what the curve shows, and the false positive rate where the plot ends."""


def plot_bars(
    summary: pd.DataFrame,  # of `report.summarise`
    path: Path,
) -> None:
    """Draw a panel for each metric, a group of bars for each target, a bar for each model; whiskers are deviations."""
    from matplotlib.figure import Figure

    metrics = [metric for metric in BARS if metric in set(summary["metric"])]
    if not metrics:
        return
    named = summary.assign(name=[row_name(*pair) for pair in zip(summary["model"], summary["shots"], strict=True)])
    targets, names = list(dict.fromkeys(named["target"])), list(dict.fromkeys(named["name"]))
    figure = Figure(figsize=(2.5 + 0.35 * len(names) * len(targets), 3 * len(metrics)), layout="constrained")
    panels = figure.subplots(len(metrics), squeeze=False)[:, 0]
    width = 0.8 / len(names)
    for panel, metric in zip(panels, metrics, strict=True):
        for number, name in enumerate(names):
            rows = named[(named["metric"] == metric) & (named["name"] == name)].set_index("target").reindex(targets)
            places = [place + (number - (len(names) - 1) / 2) * width for place in range(len(targets))]
            panel.bar(places, 100 * rows["mean"], width, yerr=100 * rows["std"], label=_literal(name), capsize=2)
        panel.set_xticks(range(len(targets)), list(map(_literal, targets)))
        panel.set_ylabel(f"{metric.replace('_', ' ')}, %")
        panel.set_ylim(0, 100)
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
    figure.suptitle("Means over categories")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(names), 3))
    _save(figure, path)


def plot_curves(
    curves: pd.DataFrame,  # model, shots, target, seed, category, curve, fpr, value
    path: Path,
) -> None:
    """Draw a row for each target: ROC of images, ROC of pixels, PRO; a line is the mean over categories and seeds."""
    from matplotlib.figure import Figure

    kinds = [kind for kind in _CURVES if kind in set(curves["curve"])]
    if not kinds:
        return
    targets = list(dict.fromkeys(curves["target"]))
    figure = Figure(figsize=(4 * len(kinds), 3.6 * len(targets)), layout="constrained")
    panels = figure.subplots(len(targets), len(kinds), squeeze=False)
    # Not every target has every curve of every model.
    known = curves[["model", "shots"]].drop_duplicates()
    names = [row_name(*pair) for pair in zip(known["model"], known["shots"], strict=True)]
    legend = {}
    for row, target in zip(panels, targets, strict=True):
        for panel, kind in zip(row, kinds, strict=True):
            part = curves[(curves["target"] == target) & (curves["curve"] == kind)]
            for (model, shots), lines in part.groupby(["model", "shots"], dropna=False, sort=False):
                mean = lines.groupby("fpr")["value"].mean()
                name = row_name(model, shots)
                legend[name], *_ = panel.plot(mean.index, mean, f"C{names.index(name)}", label=_literal(name))
            title, what, end = _CURVES[kind]
            panel.set(
                title=f"{_literal(target)}: {title}",
                xlabel="false positive rate",
                ylabel=what,
                xlim=(0, end),
                ylim=(0, 1),
            )
            panel.grid(alpha=0.3)
    figure.suptitle("Means over categories")
    figure.legend(legend.values(), map(_literal, legend), loc="outside lower center", ncols=min(len(legend), 4))
    _save(figure, path)


def read_curves(
    cells: Sequence[tuple[dict, Path]],
) -> pd.DataFrame:
    """Read the curves of cells.

    Args:
        cells: What a cell is (model, shots, target, seed), and its folder; the newest `curves.csv` in it counts.
    """
    tables = []
    for columns, folder in cells:
        found = max(folder.rglob("curves.csv"), key=lambda path: path.stat().st_mtime, default=None)
        if found is not None:
            own = {name: value for name, value in columns.items() if name != "category"}
            tables.append(pd.read_csv(found).assign(**own))
    empty = ["category", "curve", "fpr", "value", "model", "shots", "target", "seed"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=empty)


def row_name(model: object, shots: object) -> str:
    """Name a row of a table or a line of a plot."""
    return str(model) if pd.isna(shots) else f"{model}, k = {int(float(str(shots)))}"  # type: ignore[call-overload]


def _literal(text: object) -> str:
    """Escape a text for matplotlib, which reads what stands between dollars as a formula."""
    return printable(text).replace("$", r"\$")


def _save(figure: object, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)  # type: ignore[attr-defined]
