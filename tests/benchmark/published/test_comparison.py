import pandas as pd
import pytest

from anomalib_zsad.benchmark.published import compare


def _ours(*rows, variants=None):
    table = pd.DataFrame(rows, columns=["model", "setting", "dataset", "metric", "value"])
    return table if variants is None else table.assign(variant=variants)


def test_the_difference_is_ours_less_the_papers_in_percent():
    beside = compare(
        _ours(
            ("AFClip", "4-shot", "VisA", "image_AUROC", 0.9),
            ("AFClip", "0-shot", "MVTec", "pixel_AUPRO_200", 0.86),
        ),
        "afclip",
    )
    few, zero = beside.to_dict("records")
    assert (few["method"], few["table"], few["published"], few["deviation"]) == ("AF-CLIP+", 2, 92.2, 1.3)
    assert few["ours"] == pytest.approx(90)
    assert few["difference"] == pytest.approx(-2.2)
    assert (zero["method"], zero["table"], zero["published"]) == ("AF-CLIP", 1, 85.7)
    assert zero["difference"] == pytest.approx(0.3)


def test_what_the_paper_does_not_print_stays_without_it():
    rows = [("AFClip", "0-shot", "MVTec", metric, value) for metric, value in [("pixel_AUPRO", 0.8), ("image_AP", 0.7)]]
    beside = compare(_ours(*rows, ("Padim", "0-shot", "MVTec", "image_AP", 0.6)), "afclip")
    assert list(beside["ours"]) == pytest.approx([80, 70, 60])
    assert list(beside["published"].isna()) == [True, False, True]
    assert list(beside["difference"].isna()) == [True, False, True]


def test_a_model_is_not_compared_with_methods_that_no_class_implements():
    beside = compare(_ours(("", "0-shot", "MVTec", "image_AUROC", 0.5)), "afclip")
    assert beside["published"].isna().all()


def test_a_figure_of_several_tables_counts_once():
    beside = compare(_ours(("AFClip", "0-shot", "VisA", "image_AP", 0.9)), "afclip")
    assert list(zip(beside["table"], beside["published"], strict=True)) == [(1, 90.0)]


def test_a_row_stands_beside_every_variant_or_the_one_it_names():
    row = ("ACDClip", "0-shot", "BMAD Brain", "pixel_AP", 0.6)
    every = compare(_ours(row), "acdclip")
    assert dict(zip(every["variant"], every["published"], strict=True)) == {
        "N=2": 55.6,
        "N=3": 53.0,
        "N=4": 61.0,
        "N=6": 56.1,
    }
    both = compare(_ours(row, row, variants=["N=4", "N=12"]), "acdclip")
    assert list(both["variant"]) == ["N=4", "N=12"]
    assert both["published"].iloc[0] == 61.0
    assert pd.isna(both["published"].iloc[1])
    assert both["difference"].iloc[0] == pytest.approx(-1)


def test_ablations_are_left_out_unless_they_are_named():
    row = ("WMoEClip", "0-shot", "VisA", "image_AUROC", 0.85)
    assert list(compare(_ours(row), "wmoeclip")["published"]) == [87.3]
    (named,) = compare(_ours(row, variants=["CTDS"]), "wmoeclip").to_dict("records")
    assert (named["variant"], named["table"], named["published"]) == ("CTDS", 2, 85.5)


def test_baselines_of_anomalib_are_compared_too():
    rows = [("WinClip", "0-shot", "MVTec", "pixel_AUROC", 0.85), ("WinClip", "1-shot", "MVTec", "pixel_AUROC", 0.95)]
    beside = compare(_ours(*rows, ("Patchcore", "full-shot", "MVTec", "image_AUROC", 0.99)), "afclip")
    assert list(beside["published"]) == [85.1, 95.2, 99.1]


def test_a_metric_that_is_not_available_gives_no_difference():
    beside = compare(_ours(("AFClip", "0-shot", "VisA", "image_AP", float("nan"))), "afclip")
    assert beside["published"].notna().all()
    assert beside["difference"].isna().all()


def test_input_that_cannot_be_compared_is_refused():
    row = ("AFClip", "0-shot", "VisA", "image_AP", 0.9)
    with pytest.raises(ValueError, match=r"Expected the columns .*, got none called setting, value\."):
        compare(_ours(row).drop(columns=["setting", "value"]), "afclip")
    with pytest.raises(ValueError, match=r"Expected fractions from 0 to 1 as values, got 90\."):
        compare(_ours((*row[:-1], 90.0)), "afclip")
    with pytest.raises(ValueError, match=r"got more for AFClip, 0-shot, VisA, image_AP\."):
        compare(_ours(row, row), "afclip")
    with pytest.raises(ValueError, match=r"Expected a paper of .*, got winclip\."):
        compare(_ours(row), "winclip")


def test_a_dataset_may_have_any_of_its_names():
    rows = [("AFClip", "0-shot", name, "image_AUROC", 0.9) for name in ("MVTec", "MVTecAD", "Mugs")]
    ours = pd.DataFrame(rows, columns=["model", "setting", "dataset", "metric", "value"])
    beside = compare(ours, "afclip")
    assert list(beside["dataset"]) == ["MVTec", "MVTecAD", "Mugs"]
    assert list(beside["published"][:2]) == [92.9, 92.9]
    assert beside["published"].isna().iloc[2]
