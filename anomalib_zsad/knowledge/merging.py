"""Several knowledge bases as one."""

import hashlib
from collections.abc import Sequence

from anomalib_zsad.data.names import plain
from anomalib_zsad.knowledge.acceptance import is_repeated
from anomalib_zsad.knowledge.schema import ClassTexts, Generator, ImageTexts, Knowledge, Text


def merge_knowledge(bases: Sequence[Knowledge]) -> Knowledge:
    """Join knowledge bases.

    A class that several know, by any spelling of its name, has the descriptions of all, without those that say the
    same; of an image that several describe, the last counts. Every text keeps its origin.

    Args:
        bases: Two or more; the first one's origins are those of the whole.

    Raises:
        ValueError: If there are fewer than two.
    """
    if len(bases) < 2:
        msg = f"expected two knowledge bases or more to merge, got {len(bases)}"
        raise ValueError(msg)
    first = bases[0]
    others: dict[str, Generator] = {}
    classes: dict[str, ClassTexts] = {}
    spelt: dict[str, str] = {}
    for base in bases:
        marks = _Marks(base, first, others)
        for name, entry in base.classes.items():
            own = marks.mark(entry)
            known = spelt.setdefault(plain(name), name)
            classes[known] = _join(classes[known], own) if known in classes else own
    used = {text.by for entry in classes.values() for text in _texts(entry)}
    return Knowledge(
        schema_version=1,
        dataset=", ".join(dict.fromkeys(base.dataset for base in bases if base.dataset)),
        created=max(base.created for base in bases),
        llm=first.llm,
        vqa=first.vqa,
        n=min(base.n for base in bases),
        m=max(base.m for base in bases),
        classes=classes,
        others={mark: other for mark, other in others.items() if mark in used},
    )


class _Marks:
    """Names of origins in the merged base, for the texts of one of the bases."""

    def __init__(self, base: Knowledge, first: Knowledge, others: dict[str, Generator]) -> None:
        self._llm = _mark(base.llm, first.llm, others)
        self._vqa = _mark(base.vqa, first.vqa, others)
        self._others = {name: _mark(other, None, others, name) for name, other in base.others.items()}

    def mark(self, entry: ClassTexts) -> ClassTexts:
        seen = {
            key: image.model_copy(update={"descriptions": [self._by(text, self._vqa) for text in image.descriptions]})
            for key, image in entry.vqa.items()
        }
        return entry.model_copy(update={"llm": [self._by(text, self._llm) for text in entry.llm], "vqa": seen})

    def _by(self, text: Text, default: str) -> Text:
        return text.model_copy(update={"by": self._others.get(text.by, text.by) if text.by else default})


def _mark(origin: Generator, main: Generator | None, others: dict[str, Generator], name: str = "") -> str:
    """Name an origin, "" for the main one; the name stands for this origin in the merged base."""
    if origin == main:
        return ""
    digest = hashlib.sha256(origin.model_dump_json().encode()).hexdigest()[:8]
    mark = name if name and others.get(name, origin) == origin else f"{origin.model or 'written'} {digest}"
    others[mark] = origin
    return mark


def _texts(entry: ClassTexts) -> list[Text]:
    return [*entry.llm, *(text for image in entry.vqa.values() for text in image.descriptions)]


def _join(entry: ClassTexts, other: ClassTexts) -> ClassTexts:
    texts = list(entry.llm)
    for text in other.llm:
        if not is_repeated(text.text, [each.text for each in texts]):
            texts.append(text)
    images: dict[str, ImageTexts] = dict(entry.vqa)
    for key, image in other.vqa.items():
        if image.status == "ok" or images.get(key, image).status != "ok":
            images[key] = image
    return entry.model_copy(update={"llm": texts, "vqa": images, "background": entry.background or other.background})
