import pytest

from anomalib_zsad.knowledge.acceptance import objection
from anomalib_zsad.knowledge.base import load_knowledge

NO_DAMAGE = """
There are no visible signs of damage on the cup.
The picture does not show any anomaly on its surface.
The bottle is free of scratches, cracks and stains.
No cracks, dents or scratches can be seen on it.
I'm unable to process images at this time.
Please upload the picture so that it can be described.
The cup is clean and stands on a white table.
Scratches or dents are not visible on the cup.
The surface isn't scratched, and there aren't any stains.
The object appears to be without any defects or damage.
The stainless pitcher is spotless on the whole.
Everything about the metal nut seems to be as expected.
Neither cracks nor stains are on the bottle.
There's nothing wrong with the cup in the image.
The image does not contain any damaged areas.
"""

FOREIGN = """
La taza tiene una grieta larga y oscura debajo del asa.
Die Tasse hat einen langen dunklen Riss unter dem Henkel.
La tasse a une longue fissure sombre sous l'anse.
La tazza ha una lunga crepa scura sotto il manico.
Kubek ma długie ciemne pęknięcie pod uchem.
Una fractura en la superficie con corrosion visible.
Une fracture avec corrosion sur la surface de la tasse.
Auf der Oberfläche ist ein Defekt mit Korrosion zu sehen.
A superfície tem uma fratura com corrosão no lado.
De beker heeft een lange donkere barst onder het oor.
Il presente una frattura in superficie con abrasione.
Na powierzchni jest fragment z widoczna korozja.
Koppen har en lang mork revne under hanken.
"""

GOOD = """
A cup with a long dark crack below its handle.
A cup whose handle is missing, so that no part of it can be held.
A cup without a handle on its side.
Deep scratch on a metal nut surface.
A red crack runs along side 3.
The left side is no longer round and has a dent.
The cable lacks its outer insulation near the end.
There is a broken tooth on the zipper, not visible from the back.
A metal nut that is not only bent but rusty.
The lesion doesn't have a sharp border.
Several large broken areas, with white contamination at the rim.
"""


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize("text", lines(NO_DAMAGE))
def test_refusals_denials_and_what_names_no_damage_are_refused(text: str) -> None:
    reason = objection(text)
    assert reason
    assert any(word in reason for word in ("a refusal", "it denies a defect", "it names no kind of damage"))


@pytest.mark.parametrize("text", lines(FOREIGN))
def test_other_languages_are_refused(text: str) -> None:
    assert "not English" in (objection(text) or "")


@pytest.mark.parametrize("text", lines(GOOD))
def test_what_is_english_and_names_damage_is_accepted(text: str) -> None:
    assert objection(text) is None


def test_all_that_is_shipped_is_accepted() -> None:
    base = load_knowledge()
    assert [text for name in base.classes for text in base.class_texts(name) if objection(text)] == []
