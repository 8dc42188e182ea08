import numpy as np
import pandas as pd
from PIL import Image

from anomalib_zsad.benchmark import plots
from anomalib_zsad.benchmark.plots import plot_bars, plot_curves, read_curves, row_name
from anomalib_zsad.benchmark.report import summarise


def rows():
    return pd.DataFrame(
        [(m, t, c, k, s, 1, metric, 0.5 + 0.1 * s, "")
         for m, k in (("ours", 0), ("ours", 4), ("theirs", None))
         for t in ("MVTec", r"$\frac$") for c in "ab" for s in (0, 1) for metric in ("image_AUROC", "pixel_AUROC")],
        columns=["model", "target", "category", "shots", "seed", "images", "metric", "value", "note"],
    )  # fmt: skip


def inked(path):
    """The share of a picture that is not paper."""
    return (np.asarray(Image.open(path).convert("L")) < 250).mean()


def test_bars_are_drawn(tmp_path):
    plot_bars(summarise(rows()), tmp_path / "bars.png")
    assert inked(tmp_path / "bars.png") > 0.1


def test_curves_of_cells_are_read_and_drawn(tmp_path):
    for number, shots in enumerate((0, 4)):
        folder = tmp_path / f"cell{number}" / "AFClip" / "v0"
        folder.mkdir(parents=True)
        rates = np.linspace(0, 1, 11)
        table = pd.DataFrame({"category": "a", "curve": "image_ROC", "fpr": rates, "value": rates ** (1 / (1 + shots))})
        table.to_csv(folder / "curves.csv", index=False)
    cells = [
        ({"model": "ours", "shots": shots, "target": "MVTec", "seed": 0, "category": None}, tmp_path / f"cell{n}")
        for n, shots in enumerate((0, 4))
    ]
    curves = read_curves(cells)
    assert set(curves["category"]) == {"a"}
    assert len(curves) == 22
    plot_curves(curves, tmp_path / "curves.png")
    plot_curves(curves.assign(value=np.nan), tmp_path / "empty.png")
    assert inked(tmp_path / "curves.png") > inked(tmp_path / "empty.png") + 0.002


def test_the_legend_names_every_line_in_its_colour(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    cells = [("ISIC", "pixel_ROC", "theirs"), ("MVTec", "image_ROC", "ours"), ("MVTec", "image_ROC", "theirs"),
             ("MVTec", "pixel_ROC", "ours")]  # fmt: skip
    found = [(target, "a", kind, model, None, 0, rate, 0.5) for target, kind, model in cells for rate in (0.0, 1.0)]
    columns = ["target", "category", "curve", "model", "shots", "seed", "fpr", "value"]
    plot_curves(pd.DataFrame(found, columns=columns), tmp_path / "curves.png")
    (legend,) = drawn[0].legends
    named = {text.get_text(): line.get_color() for text, line in zip(legend.texts, legend.get_lines(), strict=True)}
    assert set(named) == {"ours", "theirs"}
    assert named["ours"] != named["theirs"]
    lines = [line for panel in drawn[0].axes for line in panel.get_lines()]
    assert len(lines) == len(cells)
    assert all(line.get_color() == named[line.get_label()] for line in lines)


def test_where_there_is_nothing_to_draw_nothing_is(tmp_path):
    plot_curves(read_curves([]), tmp_path / "curves.png")
    plot_bars(summarise(rows()[:0]), tmp_path / "bars.png")
    assert not list(tmp_path.iterdir())


def test_rows_are_named_by_model_and_references():
    assert [row_name("ours", shots) for shots in (None, float("nan"), 4, 4.0)] == ["ours"] * 2 + ["ours, k = 4"] * 2
