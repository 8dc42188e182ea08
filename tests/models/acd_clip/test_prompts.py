import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad import ACDClip
from anomalib_zsad.data.names import description
from anomalib_zsad.models.acd_clip.prompts import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES
from anomalib_zsad.models.parts.class_prompts import ClassPrompts
from tests.support.trees import MVTEC_CATEGORIES, VISA_CATEGORIES


def test_prompts_of_both_states():
    normal, abnormal = ClassPrompts(NORMAL_STATES, ABNORMAL_STATES, TEMPLATES).of("dark bottle")
    assert len(normal) == 6
    assert len(abnormal) == 10
    assert {"dark bottle.", "a photo of the dark bottle."} < set(normal)
    assert {"a broken dark bottle.", "a photo of a dark bottle with flaw."} < set(abnormal)


@given(st.text(min_size=1))
def test_any_class_name_stands_in_every_prompt(name):
    assert all(
        name in text for state in ClassPrompts(NORMAL_STATES, ABNORMAL_STATES, TEMPLATES).of(name) for text in state
    )


@pytest.mark.parametrize("argument", ["normal_states", "abnormal_states", "templates"])
@pytest.mark.parametrize("texts", [[], ["a thing"], ["{} on {}"], ["{0} {}"]])
def test_texts_without_a_place_for_the_class_are_refused(argument, texts):
    with pytest.raises(
        ValueError, match=f"{argument} must be a list that is not empty, each a text with one {{}}, got"
    ):
        ACDClip(**{argument: texts})


def test_published_names():
    assert description("metal_nut", "mvtecad") == "metal nut which has four notched edges"
    assert description("pcb2", "visa") == "integrated circuits board"
    assert description("Retina_RESC", "bmad") == "scan"
    assert description("anything", "kvasir") == "colon endoscopy image"
    assert description("02", "btad") == "vertical fabric lines in warm, dusty pink and beige tones"
    assert description("tubes", "mpdd") == "scattered metal objects"


def test_every_category_of_both_auxiliary_datasets_has_a_name():
    described = {description(category, "mvtecad") for category in MVTEC_CATEGORIES}
    described |= {description(category, "visa") for category in VISA_CATEGORIES}
    assert len(described) == len(MVTEC_CATEGORIES) + len(VISA_CATEGORIES)
    assert not any("_" in name or any(map(str.isdigit, name)) for name in described)


def test_an_unknown_class_goes_by_its_own_name():
    assert description("magnetic_tile", "magnetictile") == "magnetic tile"
    assert description("toothbrush", "realiad") == "toothbrush"


def test_where_the_dataset_is_unknown_any_name_for_the_category_will_do():
    assert description("bottle") == "dark bottle"
    assert description("gear_box") == "gear box"
