import pandas as pd
import pytest

from anomalib_zsad.benchmark.beside_paper import write_comparison
from anomalib_zsad.benchmark.entries import Entry, Protocol, Spec
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.benchmark.published import PAPERS
from anomalib_zsad.cli import main

COLUMNS = ["model", "target", "category", "shots", "seed", "images", "metric", "value", "note"]


@pytest.fixture
def benchmark():
    entry = Entry("anomalib_zsad.AFClip", shots=[0, 4])
    models = {"mine": entry, "also mine": entry, "PaDiM": Entry("anomalib.models.Padim")}
    return Benchmark(models, [Protocol(Spec("a"), {"MVTec": Spec("b"), "Mugs": Spec("c")})])


def test_the_mean_over_categories_stands_beside_the_printed_one(benchmark, tmp_path):
    cells = [(m, t, c, k, 0, 1, "image_AUROC", v, "") for m in ("mine", "also mine") for t in ("MVTec", "Mugs")
             for c, v in (("a", 0.8), ("b", 0.9)) for k in (0, 4)]  # fmt: skip
    cells.append(("PaDiM", "MVTec", "a", None, 0, 1, "image_AUROC", 0.5, ""))
    table = write_comparison(tmp_path, benchmark, pd.DataFrame(cells, columns=COLUMNS), "afclip")
    assert set(table["name"]) == {"mine", "also mine"}
    assert set(table["dataset"]) == {"MVTec"}
    zero_shot = table[(table["setting"] == "0-shot") & (table["name"] == "mine")].iloc[0]
    assert (zero_shot["ours"], zero_shot["published"]) == pytest.approx((85.0, 92.9))
    assert "| mine | 0-shot | MVTec | image_AUROC |  | 2 | 85.0 | 92.9 | -7.9 |" in (
        tmp_path / "compared_to_afclip.md"
    ).read_text(encoding="utf-8")
    assert len(pd.read_csv(tmp_path / "compared_to_afclip.csv")) == len(table)


def test_nothing_to_compare_is_said(benchmark, tmp_path):
    rows = pd.DataFrame([("mine", "Mugs", "a", 0, 0, 1, "image_AUROC", 0.5, "")], columns=COLUMNS)
    assert write_comparison(tmp_path, benchmark, rows, "afclip").empty
    assert "prints no figure" in (tmp_path / "compared_to_afclip.md").read_text(encoding="utf-8")


def compared(folder, models, paper, *rows):
    benchmark = Benchmark(models, [Protocol(Spec("a"), {"MVTec": Spec("b"), "VisA": Spec("c")})])
    cells = [(model, dataset, category, None, 0, 1, "image_AUROC", 0.8, "") for model, dataset, category in rows]
    return write_comparison(folder, benchmark, pd.DataFrame(cells, columns=COLUMNS), paper)


def test_a_model_stands_beside_the_variant_that_it_is(tmp_path):
    models = {f"N={n}": Entry("anomalib_zsad.ACDClip", {"n_groups": n}, variant=f"N={n}") for n in (2, 4)}
    models["baseline"] = Entry("anomalib_zsad.ACDClip", variant="Baseline")
    table = compared(tmp_path, models, "acdclip", *((name, "MVTec", "nut") for name in models))
    found = table.set_index("name")[["variant", "published"]].to_dict("index")
    assert found == {
        "N=2": {"variant": "N=2", "published": 90.9},
        "N=4": {"variant": "N=4", "published": 92.4},
        "baseline": {"variant": "Baseline", "published": 81.2},
    }


def test_over_how_many_categories_our_mean_is_stands_there(tmp_path):
    models = {"AF-CLIP": Entry("anomalib_zsad.AFClip")}
    rows = [
        ("AF-CLIP", dataset, category) for dataset, count in (("MVTec", 3), ("VisA", 1)) for category in "abc"[:count]
    ]
    table = compared(tmp_path, models, "afclip", *rows)
    assert dict(zip(table["dataset"], table["categories"], strict=True)) == {"MVTec": 3, "VisA": 1}
    assert "| VisA | image_AUROC |  | 1 | 80.0 |" in (tmp_path / "compared_to_afclip.md").read_text(encoding="utf-8")


def test_what_is_trained_on_all_normal_images_is_full_shot(tmp_path):
    models = {"PatchCore": Entry("anomalib.models.Patchcore"), "WinCLIP": Entry("anomalib.models.WinClip")}
    table = compared(tmp_path, models, "afclip", *((name, "MVTec", "nut") for name in models))
    assert dict(zip(table["setting"], table["published"], strict=True)) == {"full-shot": 99.1, "0-shot": 91.8}


@pytest.mark.parametrize("paper", PAPERS)
def test_the_command_knows_every_paper(paper, tmp_path, capsys):
    assert main(["benchmark", "-c", str(tmp_path / "none.yaml"), "--compare", paper]) == 2
    assert "found no such file" in capsys.readouterr().err
