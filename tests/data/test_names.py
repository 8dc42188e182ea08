import pytest
from anomalib.data import BMAD, MVTecAD

import anomalib_zsad.data
from anomalib_zsad.benchmark.published import published_figures
from anomalib_zsad.data import AllCategories, MVTec, VisA
from anomalib_zsad.data.names import (
    dataset_key,
    dataset_name,
    description,
    domain_of,
    knowledge_entries,
    read_class_words,
    readable,
)
from anomalib_zsad.knowledge import load_knowledge


@pytest.mark.parametrize(
    "name", ["ColonDB", "CVC-ClinicDB", "Kvasir", "HeadCT", "Br35H", "BMAD", "BMAD Liver", "COVID-19", "TN3K"]
)
def test_medical_datasets(name):
    assert domain_of(name) == "medical"


@pytest.mark.parametrize("datamodule", [None, "MVTecAD", "something else", MVTecAD(), MVTec(), VisA()])
def test_all_others_are_industrial(datamodule):
    assert domain_of(datamodule) == "industrial"


def test_the_dataset_that_is_tested_on_counts():
    assert domain_of(BMAD()) == "medical"
    assert domain_of(AllCategories(BMAD())) == "medical"
    assert domain_of(VisA(target=BMAD())) == "medical"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MVTec-AD", "MVTecAD"),
        ("CVC-ColonDB", "colondb"),
        ("BTech/01", "BTAD"),
        ("KolektorSDD2", "KSDD2"),
        ("m-y", "My"),
    ],
)
def test_all_names_of_a_dataset_have_one_key(one, other):
    assert dataset_key(one) == dataset_key(other)
    assert dataset_key(dataset_key(one)) == dataset_key(one)


def test_a_dataset_in_a_table_of_results_is_called_as_here():
    assert dataset_name("Visa") == "VisA"
    assert dataset_name("bmad-brain") == "BMAD Brain"
    assert dataset_name("Mugs") == "Mugs"
    named = set(published_figures()["dataset"])
    assert {dataset_name(name) for name in named} == named


@pytest.mark.parametrize("name", ["MVTecAD", "mvtec", "MVTec-AD"])
def test_published_words_are_found_by_any_name_of_the_dataset(name):
    assert description("Metal_Nut", name) == "metal nut which has four notched edges"


def test_every_dataset_of_this_package_is_known():
    other = {"AllCategories", "Auxiliary", "ImageFiles", "Listed"}
    assert {dataset_name(name.upper()) for name in anomalib_zsad.data.__all__ if name not in other} == {
        "BMAD" if name == "BMADSegmentation" else name for name in anomalib_zsad.data.__all__ if name not in other
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("metal_nut", "metal nut"),
        ("pcb3", "printed circuit board"),
        ("Retina_RESC", "retinal OCT"),
        ("Class7", "object"),
    ],
)
def test_a_class_is_called_in_words(name, words):
    assert readable(name) == words


@pytest.mark.parametrize(
    ("name", "dataset", "entry"),
    [
        ("02", "BTech", "btad_02"),
        ("Dent", "RSDD", "rail"),
        ("Class10", "DAGM", "dagm_class10"),
        ("chest", None, "chest_xray"),
    ],
)
def test_entries_that_are_named_are_in_the_shipped_knowledge_base(name, dataset, entry):
    assert load_knowledge().find(name, dataset) == entry
    assert next(knowledge_entries(name, dataset)) == name.lower()


def test_a_file_of_words_is_read_the_same_wherever_it_is(tmp_path, monkeypatch):
    (tmp_path / "names.yaml").write_text("Screw: große Schraube\n", encoding="utf-8")
    monkeypatch.setattr("io.text_encoding", lambda encoding, _=2: encoding or "ascii")  # another machine's own
    assert read_class_words(tmp_path / "names.yaml") == {"screw": "große Schraube"}
