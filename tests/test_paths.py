from pathlib import PurePath

from hypothesis import example, given
from hypothesis import strategies as st

from anomalib_zsad.paths import path_component

HARMLESS = ["bottle", "MVTec AD", "AF-CLIP+", "Type-I RSDDs dataset", "01", "été", "a.b", "half~time"]


def test_harmless_names_stay() -> None:
    assert [path_component(name) for name in HARMLESS] == HARMLESS


@given(st.text(st.characters()), st.text(st.characters()))
@example("/absolute", "..")
@example("A/B", "A_B")
@example("", ".")
@example("x" * 300, "x" * 301)
@example("é" * 300, "\udcff\x1b[31m")
def test_any_name_is_one_short_component_and_no_other_names(one: str, other: str) -> None:
    component = path_component(one)

    assert PurePath(component).parts == (component,)
    assert component not in {".", ".."}
    assert component.isprintable()
    assert len(component.encode()) <= 120
    assert (component == path_component(other)) == (one == other)


def test_a_name_that_looks_like_a_changed_one_is_changed() -> None:
    changed = path_component("A/B")

    assert path_component(changed) != changed
