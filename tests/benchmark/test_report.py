import math
from pathlib import Path

import pandas as pd

from anomalib_zsad.benchmark.report import Pictures, page, summarise


def rows(*cells):
    columns = ["model", "target", "category", "shots", "seed", "images", "metric", "value", "note"]
    return pd.DataFrame(cells, columns=columns)


def cell(category, seed, value, images=1, model="m"):
    return (model, "t", category, None, seed, images, "image_AUROC", value, "")


def test_categories_count_alike_however_many_images_they_have():
    (row,) = summarise(rows(cell("a", 0, 1.0, images=1), cell("b", 0, 0.5, images=999))).to_dict("records")
    assert row["mean"] == 0.75
    assert math.isnan(row["std"])


def test_the_deviation_is_of_the_means_over_categories():
    table = rows(cell("a", 0, 0.0), cell("b", 0, 1.0), cell("a", 1, 0.25), cell("b", 1, 0.75))
    (row,) = summarise(table).to_dict("records")
    assert (row["mean"], row["std"], row["seeds"], row["categories"]) == (0.5, 0.0, 2, 2)


def test_a_mean_of_fewer_categories_says_so():
    table = rows(cell("a", 0, 1.0), cell("b", 0, 0.5), cell("a", 0, 0.9, model="other"))
    text = "\n\n".join(page(summarise(table), {}))
    assert "| m | 75.0 |" in text
    assert "| other | 90.0 (1 of 2) |" in text


def test_pictures_are_linked_below_the_table_of_their_target():
    cases, beside = ("t", "m, seed 0", Path("pictures/m, plain/t/seed_0.png")), ("t", Path("pictures/t.png"))
    others = Pictures([cases, ("u", "other", Path("u.png"))], [beside], [Path("bars.png")])
    text = "\n\n".join(page(summarise(rows(cell("a", 0, 1.0))), {}, others))
    assert "| m | 100.0 |\n\n![t, beside one another](<pictures/t.png>)\n\n" in text
    assert "false alarms: [m, seed 0](<pictures/m, plain/t/seed_0.png>)\n" in text
    assert "![bars](<bars.png>)" in text
    assert "u.png" not in text
