from typing import get_args

import anomalib.models
import pytest
from anomalib.data.datasets.image.bmad import CATEGORIES as BMAD_CATEGORIES

import anomalib_zsad
from anomalib_zsad.benchmark.published import PAPERS, published_figures
from anomalib_zsad.benchmark.published.figures import COLUMNS, MODELS
from anomalib_zsad.commands.experiments import Paper
from anomalib_zsad.evaluation.table import RANKING

INDUSTRIAL = {"MVTec", "VisA", "BTAD", "MPDD", "RSDD", "SDD", "KSDD2", "DAGM", "DTDSynthetic"}
BMAD = {f"BMAD {category}" for category in BMAD_CATEGORIES}
WITHOUT_MASKS = {"BrainMRI", "Br35H", "HeadCT", "COVID19"}
WITHOUT_NORMALS = {"ISIC", "ColonDB", "ClinicDB", "Kvasir", "Endo", "TN3K"}

I_ROC, I_AP, I_F1 = "image_AUROC", "image_AP", "image_F1Max"
P_ROC, P_AP, P_PRO = "pixel_AUROC", "pixel_AP", "pixel_AUPRO_200"

# Read apart from the transcription: paper, table, method, variant, setting, dataset, then metric and value.
SPOTS = [
    ("afclip", 1, "AF-CLIP", "", "0-shot", "MVTec", {I_ROC: 92.9, I_AP: 96.8, P_ROC: 92.3, P_PRO: 85.7}),
    ("afclip", 1, "AF-CLIP", "", "0-shot", "VisA", {I_ROC: 88.5, I_AP: 90.0, P_ROC: 96.2, P_PRO: 88.7}),
    ("afclip", 1, "AF-CLIP", "", "0-shot", "BTAD", {I_ROC: 94.3, I_AP: 95.2, P_ROC: 94.4, P_PRO: 78.3}),
    ("afclip", 1, "AF-CLIP", "", "0-shot", "DAGM", {I_ROC: 98.7, I_AP: 94.6, P_ROC: 97.1, P_PRO: 93.1}),
    ("afclip", 1, "AF-CLIP", "", "0-shot", "DTDSynthetic", {I_ROC: 97.9, I_AP: 99.1, P_ROC: 98.6, P_PRO: 93.8}),
    ("afclip", 2, "AF-CLIP+", "", "4-shot", "VisA", {I_ROC: 92.2, I_AP: 92.5, P_ROC: 98.5, P_PRO: 93.4}),
    ("acdclip", 1, "ACD-CLIP", "N=2", "0-shot", "ClinicDB", {P_ROC: 90.4, P_AP: 53.5}),
    ("acdclip", 1, "ACD-CLIP", "N=2", "0-shot", "BMAD Brain", {I_ROC: 89.1, I_AP: 97.2, P_ROC: 96.6, P_AP: 55.6}),
    ("acdclip", 2, "ACD-CLIP", "Baseline", "0-shot", "MVTec", {P_ROC: 82.3, I_ROC: 81.2}),
    ("wmoeclip", 1, "WMoE-CLIP", "", "0-shot", "HeadCT", {I_ROC: 98.2, I_F1: 92.9, I_AP: 98.1}),
    ("wmoeclip", 1, "WMoE-CLIP", "", "0-shot", "Kvasir", {P_ROC: 88.2, P_PRO: 62.2, P_AP: 62.3}),
    ("anomalyclip", 1, "AnomalyCLIP", "", "0-shot", "SDD", {I_ROC: 84.7, I_AP: 80.0, P_ROC: 90.6, P_PRO: 67.8}),
    ("anomalyclip", 2, "AnomalyCLIP", "", "0-shot", "COVID19", {I_ROC: 80.1, I_AP: 58.7}),
    ("anomalyclip", 2, "AnomalyCLIP", "", "0-shot", "TN3K", {P_ROC: 81.5, P_PRO: 50.4}),
    (
        "wmoeclip",
        1,
        "WMoE-CLIP",
        "",
        "0-shot",
        "KSDD2",
        {I_ROC: 96.8, I_F1: 91.5, I_AP: 97.4, P_ROC: 99.6, P_PRO: 98.4, P_AP: 72.5},
    ),
    ("wmoeclip", 2, "WMoE-CLIP", "CTDS + SA-MoE", "0-shot", "VisA", {I_ROC: 86.7, P_ROC: 95.1}),
    ("kanoclip", 1, "KAnoCLIP", "", "0-shot", "SDD", {I_ROC: 86.2, P_ROC: 93.2}),
    ("kanoclip", 1, "AnomalyCLIP", "", "0-shot", "DAGM", {I_ROC: 97.5, P_ROC: 95.6}),
    ("kanoclip", 2, "KAnoCLIP", "", "0-shot", "COVID19", {I_ROC: 85.4}),
    ("kanoclip", 2, "KAnoCLIP", "", "0-shot", "BMAD Retina_RESC", {I_ROC: 84.8, P_ROC: 93.5}),
    ("kanoclip", 3, "KAnoCLIP", "+ Bi-CMCI", "0-shot", "MVTec", {I_ROC: 92.0, P_ROC: 92.4}),
]


@pytest.fixture(scope="module")
def figures():
    return published_figures()


def test_a_row_has_every_column(figures):
    assert list(figures.columns) == list(COLUMNS)
    assert not figures.drop(columns="deviation").isna().any().any()
    assert (
        list(figures["paper"].unique()) == list(PAPERS) == ["acdclip", "afclip", "anomalyclip", "kanoclip", "wmoeclip"]
    )


def test_the_command_compares_with_each_paper():
    assert get_args(Paper) == PAPERS


def test_one_paper_is_its_part_of_all(figures):
    for paper in PAPERS:
        part = figures[figures["paper"] == paper].reset_index(drop=True)
        assert published_figures(paper).equals(part)


def test_an_unknown_paper_is_refused():
    with pytest.raises(ValueError, match=r"Expected a paper of acdclip, .*, got winclip\."):
        published_figures("winclip")


def test_the_number_of_figures_is_that_of_the_printed_cells(figures):
    counted = figures.groupby(["paper", "table"]).size().to_dict()
    assert counted == {
        # (19 datasets by 8 columns) of a pair; 4 rows of 2.
        ("acdclip", 1): 304,
        ("acdclip", 2): 8,
        # (16 by 6) of a pair; 24 rows of 8 less 3 of 4; 12 rows of 2 less 2; 5 by 4 pairs; 4 by 4; 2 by 4.
        ("afclip", 1): 192,
        ("afclip", 2): 180,
        ("afclip", 3): 22,
        ("afclip", 4): 40,
        ("afclip", 5): 16,
        ("afclip", 6): 8,
        # 7 rows of 4; 10 rows of 2.
        ("anomalyclip", 1): 28,
        ("anomalyclip", 2): 20,
        # 7 by 6 pairs; the same less the pixel figures of three datasets; 5 by 4.
        ("kanoclip", 1): 84,
        ("kanoclip", 2): 63,
        ("kanoclip", 3): 20,
        # (20 by 6) of a triple; 5 by 4.
        ("wmoeclip", 1): 360,
        ("wmoeclip", 2): 20,
    }


@pytest.mark.parametrize(("paper", "table", "method", "variant", "setting", "dataset", "expected"), SPOTS)
def test_figures_are_the_printed_ones(figures, paper, table, method, variant, setting, dataset, expected):
    names = {"paper": paper, "table": table, "method": method, "variant": variant, "setting": setting}
    rows = figures
    for column, name in (names | {"dataset": dataset}).items():
        rows = rows[rows[column] == name]
    assert dict(zip(rows["metric"], rows["value"], strict=True)) == expected


def test_no_figure_is_there_twice(figures):
    keys = ["paper", "table", "method", "variant", "setting", "dataset", "metric"]
    assert not figures.duplicated(keys).any()


def test_what_a_paper_repeats_it_repeats_alike(figures):
    whole = {"": "", "V4": "", "Adaptor": "", "with patch alignment": "", "Ours (ACD-CLIP)": "N=2"}
    whole |= {"CTDS + WCMA + SA-MoE": "", "+ Conv-Adapter": ""} | {f"N={n}": f"N={n}" for n in (2, 3, 4, 6)}
    rows = figures[figures["variant"].isin(whole)].copy()
    rows["variant"] = rows["variant"].map(whole)
    rows["method"] = rows["model"].where(rows["model"] != "", rows["method"])
    keys = ["paper", "method", "variant", "setting", "dataset", "metric"]
    values = rows.groupby(keys)["value"].agg(["nunique", "size"])
    # Five methods of both of AF-CLIP's first tables by 8; its few-shot MVTec AUROC by 6; the full rows of ablations.
    assert (values["size"] > 1).sum() == 5 * 8 + 6 + 2 + 4 + 4
    # The one that the paper prints as 90.0 and 89.9.
    assert list(values.index[values["nunique"] > 1]) == [("afclip", "AFClip", "", "0-shot", "VisA", "image_AP")]


def test_values_are_percent(figures):
    assert figures["value"].between(0, 100).all()
    assert figures["value"].median() > 80
    assert figures["deviation"].dropna().between(0, 5).all()


def test_deviations_are_those_of_the_few_shot_table(figures):
    with_deviation = figures[figures["deviation"].notna()]
    assert set(zip(with_deviation["paper"], with_deviation["table"], strict=True)) == {("afclip", 2)}
    without = figures[(figures["paper"] == "afclip") & (figures["table"] == 2) & figures["deviation"].isna()]
    assert set(without["method"]) == {"IIPAD"}
    row = figures.query("method == 'AF-CLIP+' and setting == '1-shot' and dataset == 'VisA' and table == 2").iloc[0]
    assert (row["metric"], row["value"], row["deviation"]) == ("image_AUROC", 90.5, 2.1)


def test_metrics_and_datasets_are_the_packages(figures):
    assert set(figures["metric"]) == set(RANKING) - {"pixel_F1Max", "pixel_AUPRO"}
    named = set(figures["dataset"])
    assert named - BMAD == INDUSTRIAL | WITHOUT_MASKS | WITHOUT_NORMALS
    assert named & BMAD == {"BMAD Brain", "BMAD Liver", "BMAD Retina_RESC"}


def test_datasets_have_the_metrics_that_they_allow(figures):
    levels = figures["metric"].str.split("_").str[0]
    assert set(figures["dataset"][levels == "pixel"]).isdisjoint(WITHOUT_MASKS)
    assert set(figures["dataset"][levels == "image"]).isdisjoint(WITHOUT_NORMALS)


def test_the_level_of_a_metric_is_the_printed_one(figures):
    printed = figures["printed_metric"].str[0].str.lower()
    assert (printed == figures["metric"].str[0]).all()


def test_models_are_classes(figures):
    assert set(figures["model"]) == {*MODELS.values(), ""}
    for model in {"AFClip", "ACDClip"}:
        assert hasattr(anomalib_zsad, model)
    for model in {"WinClip", "Patchcore"}:
        assert hasattr(anomalib.models, model)
    assert set(figures["paper"][figures["model"] == "Patchcore"]) == {"afclip"}
