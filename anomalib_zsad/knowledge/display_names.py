"""How the questions of a build call its classes."""

import logging
from collections.abc import Mapping, Sequence

from anomalib_zsad.data.names import plain, readable
from anomalib_zsad.knowledge.base import BUILTIN, load_knowledge

logger = logging.getLogger(__name__)


def display_names(classes: Sequence[str], dataset: str = "") -> dict[str, str]:
    """Name classes as the shipped base does, or else as their dataset does.

    Classes of one name are distinguished by their own words where they have some: `bracket_black` and `bracket_brown`
    are a "black metal bracket" and a "brown metal bracket", not both a "metal bracket". Else, as for `pcb1` and `pcb2`,
    it is logged that they share their descriptions.

    Args:
        classes: As their dataset calls them.
        dataset: The dataset's name.
    """
    names = {name: _display_name(name, dataset) for name in classes}
    for shown, same in _of_one_name(names):
        names.update(_told_apart(same, shown))
    for shown, same in _of_one_name(names):
        logger.warning("%s share their descriptions: a question calls each of them %r.", ", ".join(same), shown)
    return names


def _display_name(name: str, dataset: str) -> str:
    shipped = load_knowledge(BUILTIN)
    entry = shipped.find(name, dataset)
    return shipped.content.classes[entry].display_name if entry else readable(name)


def _of_one_name(names: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    classes: dict[str, list[str]] = {}
    for name, shown in names.items():
        classes.setdefault(shown, []).append(name)
    return [(shown, same) for shown, same in classes.items() if len(same) > 1]


def _told_apart(same: Sequence[str], shown: str) -> dict[str, str]:
    """Put the words in which names differ before what all are called, where that has a word which they share."""
    words = {name: readable(name).split() for name in same}
    shared = set.intersection(*map(set, words.values()))
    own = {name: " ".join(word for word in words[name] if word not in shared) for name in same}
    is_clear = shared & set(plain(shown).split()) and all(own.values()) and len(set(own.values())) == len(same)
    return {name: f"{own[name]} {shown}" for name in same} if is_clear else {}
