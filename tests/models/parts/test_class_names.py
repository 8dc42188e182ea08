"""The words for classes in prompts: whose count, and in which order."""

import pytest

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.data.names import description
from anomalib_zsad.models.parts.class_names import ClassNames
from tests.support.contract import images


def test_given_names_take_precedence(tmp_path):
    (tmp_path / "names.yaml").write_text("bottle: green bottle\nGear: steel gear\n")
    for own in (
        {"bottle": "green bottle", "Gear": "steel gear"},
        tmp_path / "names.yaml",
        str(tmp_path / "names.yaml"),
    ):
        names = ClassNames(description, own)
        assert names.describe("bottle", "mvtecad") == "green bottle"
        assert names.describe("gear") == "steel gear"
        assert names.describe("wood", "mvtecad") == "wood surface"


@pytest.mark.parametrize("text", ["- bottle", "bottle: [a, b]", "bottle", "1: 2"])
def test_another_kind_of_file_is_named(tmp_path, text):
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"names\.yaml: expected one name for each class"):
        ClassNames(description, tmp_path / "names.yaml")


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "names.yaml").write_text("a: {b")
    with pytest.raises(ValueError, match=r"names\.yaml: expected a YAML file"):
        ClassNames(description, tmp_path / "names.yaml")


class _Module:
    _trainer = None


def test_every_image_is_named_by_its_category_unless_all_are_of_one_class():
    batch = CategoryBatch(image=images(2), category=["bottle", "gear_box"])
    assert ClassNames(description).of(batch, _Module()) == ["dark bottle", "gear box"]
    assert ClassNames(description, class_name="wood").of(batch, _Module()) == ["wood surface"] * 2
    assert ClassNames(description, class_name="wood").default == "wood surface"
    assert ClassNames(description).default == "object"
