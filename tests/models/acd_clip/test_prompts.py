import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad import ACDClip
from anomalib_zsad.models.acd_clip.prompts import ClassNames, ClassPrompts
from tests.support.trees import MVTEC_CATEGORIES, VISA_CATEGORIES


def test_prompts_of_both_states():
    normal, abnormal = ClassPrompts().of("dark bottle")
    assert len(normal) == 6
    assert len(abnormal) == 10
    assert {"dark bottle.", "a photo of the dark bottle."} < set(normal)
    assert {"a broken dark bottle.", "a photo of a dark bottle with flaw."} < set(abnormal)


@given(st.text(min_size=1))
def test_any_class_name_stands_in_every_prompt(name):
    assert all(name in text for state in ClassPrompts().of(name) for text in state)


@pytest.mark.parametrize("argument", ["normal_states", "abnormal_states", "templates"])
@pytest.mark.parametrize("texts", [[], ["a thing"], ["{} on {}"], ["{0} {}"]])
def test_texts_without_a_place_for_the_class_are_refused(argument, texts):
    with pytest.raises(
        ValueError, match=f"{argument} must be a list that is not empty, each a text with one {{}}, got"
    ):
        ACDClip(**{argument: texts})


def test_published_names():
    names = ClassNames()
    assert names.describe("metal_nut", "mvtecad") == "metal nut which has four notched edges"
    assert names.describe("pcb2", "visa") == "integrated circuits board"
    assert names.describe("Retina_RESC", "bmad") == "scan"
    assert names.describe("anything", "kvasir") == "colon endoscopy image"
    assert names.describe("02", "btad") == "vertical fabric lines in warm, dusty pink and beige tones"
    assert names.describe("tubes", "mpdd") == "scattered metal objects"


def test_every_category_of_both_auxiliary_datasets_has_a_name():
    described = {ClassNames().describe(category, "mvtecad") for category in MVTEC_CATEGORIES}
    described |= {ClassNames().describe(category, "visa") for category in VISA_CATEGORIES}
    assert len(described) == len(MVTEC_CATEGORIES) + len(VISA_CATEGORIES)
    assert not any("_" in name or any(map(str.isdigit, name)) for name in described)


def test_an_unknown_class_goes_by_its_own_name():
    assert ClassNames().describe("magnetic_tile", "magnetictile") == "magnetic tile"
    assert ClassNames().describe("toothbrush", "realiad") == "toothbrush"


def test_where_the_dataset_is_unknown_any_name_for_the_category_will_do():
    assert ClassNames().describe("bottle") == "dark bottle"
    assert ClassNames().describe("gear_box") == "gear box"


def test_own_names_take_precedence(tmp_path):
    (tmp_path / "names.yaml").write_text("bottle: green bottle\nGear: steel gear\n")
    for own in (
        {"bottle": "green bottle", "Gear": "steel gear"},
        tmp_path / "names.yaml",
        str(tmp_path / "names.yaml"),
    ):
        names = ClassNames(own)
        assert names.describe("bottle", "mvtecad") == "green bottle"
        assert names.describe("gear") == "steel gear"
        assert names.describe("wood", "mvtecad") == "wood surface"


@pytest.mark.parametrize("text", ["- bottle", "bottle: [a, b]", "bottle", "1: 2"])
def test_another_kind_of_file_is_named(tmp_path, text):
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"names\.yaml: expected one name for each class"):
        ClassNames(tmp_path / "names.yaml")


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "names.yaml").write_text("a: {b")
    with pytest.raises(ValueError, match=r"names\.yaml: expected a YAML file"):
        ClassNames(tmp_path / "names.yaml")
