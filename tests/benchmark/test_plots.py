import numpy as np
import pandas as pd
from PIL import Image

from anomalib_zsad.benchmark.plots import plot_bars, plot_curves, read_curves, row_name
from anomalib_zsad.benchmark.report import summarise


def rows():
    return pd.DataFrame(
        [(m, t, c, k, s, 1, metric, 0.5 + 0.1 * s, "")
         for m, k in (("ours", 0), ("ours", 4), ("theirs", None))
         for t in ("MVTec", "VisA") for c in "ab" for s in (0, 1) for metric in ("image_AUROC", "pixel_AUROC")],
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
    assert inked(tmp_path / "curves.png") > 0.02


def test_where_there_is_nothing_to_draw_nothing_is(tmp_path):
    plot_curves(read_curves([]), tmp_path / "curves.png")
    plot_bars(summarise(rows()[:0]), tmp_path / "bars.png")
    assert not list(tmp_path.iterdir())


def test_rows_are_named_by_model_and_references():
    assert [row_name("ours", shots) for shots in (None, float("nan"), 4, 4.0)] == ["ours"] * 2 + ["ours, k = 4"] * 2
