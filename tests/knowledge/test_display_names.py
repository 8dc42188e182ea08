import logging

import pytest

from anomalib_zsad.knowledge.display_names import display_names


@pytest.mark.parametrize(
    ("classes", "dataset", "shown"),
    [
        (["metal_nut", "pcb1", "wine_glass2"], "", ["metal nut", "printed circuit board", "wine glass"]),
        (["01"], "BTech", ["metal part"]),
        (["bracket_black"], "MPDD", ["metal bracket"]),
        (["bracket_black", "tubes", "bracket_brown"], "MPDD", ["black metal bracket", None, "brown metal bracket"]),
    ],
)
def test_names(classes, dataset, shown, caplog):
    names = display_names(classes, dataset)
    assert list(names) == classes
    assert all(name == expected for name, expected in zip(names.values(), shown, strict=True) if expected)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("classes", "dataset", "shown"),
    [
        (["pcb1", "pcb2", "pcb4"], "VisA", "printed circuit board"),
        (["Class1", "Class10"], "DAGM", "textured surface"),
        (["Woven_001", "Woven_068"], "DTD-Synthetic", "woven fabric"),
        (["Retina_OCT2017", "Retina_RESC"], "BMAD", "retinal OCT"),
        (["rail", "Dent"], "RSDD", "rail surface"),
        (["mug1", "mug2"], "", "mug"),
        (["mug", "Mug"], "", "mug"),
    ],
)
def test_classes_of_one_name_are_told_once(classes, dataset, shown, caplog):
    with caplog.at_level(logging.WARNING):
        assert display_names([*classes, "bottle"], dataset) == {**dict.fromkeys(classes, shown), "bottle": "bottle"}
    assert caplog.messages == [
        f"{', '.join(classes)} share their descriptions: a question calls each of them {shown!r}."
    ]
