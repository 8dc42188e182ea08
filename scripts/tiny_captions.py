"""What is said of the pictures that the small CLIP learns from: facts, captions that mention some, what is true."""

from collections.abc import Sequence

import numpy as np
from open_clip.tokenizer import SimpleTokenizer

from anomalib_zsad.synthetic.drawing import DEFECTS, captions
from anomalib_zsad.synthetic.drawing.colours import MATERIALS

FACTS = ("category", "material", "state", "defect", "row", "column")
"""What is known of a picture or a region: a number each; a normal state is 0 and has no defect and no place."""

UNKNOWN = "zzz"
"""Stands for a word that was never trained."""

_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
_PLAIN = ("{}", "a {}", "the {}")
_GOOD = tuple(f"{way} {{}}" for way in captions._GOOD)
_WITHOUT = tuple(f"{{}} {way}" for way in captions._WITHOUT)
_BAD = tuple(f"{way} {{}}" for way in captions._BAD)
_WITH = (*(f"{{}} {way}" for way in captions._WITH), "{} with anomaly")
_OPENINGS = ("{}", "{}", "a photo of {}", "a picture of {}", "a close-up photo of {}")
_ANY = ("object", "thing", "surface", "item", "part")


class Captions:
    """Captions from facts.

    Args:
        categories: Names of the things, in the order of their numbers.
    """

    def __init__(self, categories: Sequence[str]) -> None:
        self.variety = 1.0  # how often the wording is left to chance
        self.names = [captions._NAMES[category] for category in categories]
        self.materials = list(MATERIALS)
        self.defects = [captions._DEFECTS[defect] for defect in DEFECTS]
        self.hurt = [captions._HURT[defect] for defect in DEFECTS]
        self._tokenizer = SimpleTokenizer(context_length=77)
        self._known: dict[str, list[int]] = {}
        texts = [*_PLAIN, *_GOOD, *_WITHOUT, *_BAD, *_WITH, *_OPENINGS, *_ANY, *self.materials, *self.hurt]
        texts += [*_ROWS, *_COLUMNS, "at the on .", *(text for group in (*self.names, *self.defects) for text in group)]
        words = " ".join(texts).replace("{}", " ").split()
        self.vocabulary = sorted({token for word in words for token in self.tokens(word)})

    def tokens(self, text: str) -> list[int]:
        """Give the token numbers of a text, with start and end."""
        if text not in self._known:
            if len(self._known) > 200_000:
                self._known.clear()
            row = self._tokenizer(text)[0].tolist()
            self._known[text] = row[: row.index(max(row)) + 1]
        return self._known[text]

    def write(
        self,
        facts: np.ndarray,  # (len(FACTS),)
        generator: np.random.Generator,
    ) -> tuple[str, np.ndarray]:  # and (len(FACTS),) bool
        """Write a caption and say which facts it mentions; the place only of a defect whose place is known (>= 0)."""
        category, material, state, defect, row, column = facts
        said = np.zeros(len(FACTS), dtype=bool)
        said[2] = True
        chance = generator.random()
        said[0], is_unknown = chance < 0.65, chance > 0.85
        thing = (
            self._one(self.names[category], generator)
            if said[0]
            else UNKNOWN
            if is_unknown
            else self._one(_ANY, generator)
        )
        if generator.random() < 0.25 and self.materials[material] not in captions._UNSAID:
            thing, said[1] = f"{self.materials[material]} {thing}", True
        manner = generator.random()
        if not state:
            ways = _PLAIN if manner < 0.25 else _GOOD if manner < 0.55 else _WITHOUT
            text = self._article(self._one(ways, generator).format(thing), generator)
        elif manner < 0.4:
            text = self._article(self._one(_BAD if manner < 0.2 else _WITH, generator).format(thing), generator)
        elif manner < 0.55:
            text, said[3] = self._article(f"{self.hurt[defect]} {thing}", generator), True
        else:
            name, said[3] = self._one(self.defects[defect], generator), True
            text = (
                f"a {name} on {thing}"
                if generator.random() < 0.3
                else f"{self._article(thing, generator)} with a {name}"
            )
        if state and row >= 0 and generator.random() < 0.5:
            text, said[4], said[5] = f"{text} at the {_ROWS[row]} {_COLUMNS[column]}", True, True
        return self._one(_OPENINGS, generator).format(text) + ("." if generator.random() < 0.5 else ""), said

    def categories(self, generator: np.random.Generator) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Name every category once: texts, facts, and which of them are mentioned."""
        rows = []
        for number, names in enumerate(self.names):
            text = self._one(_OPENINGS, generator).format(self._article(self._one(names, generator), generator))
            rows.append((text, np.array([number, -1, -1, -1, -1, -1]), _said(0)))
        return rows

    def states(self, generator: np.random.Generator) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Name every kind of defect once, and as often as not a good and a bad thing, whatever it is."""
        rows = []
        for number, names in enumerate(self.defects):
            thing = self._one((*_ANY, UNKNOWN), generator)
            text = (
                f"{self.hurt[number]} {thing}"
                if generator.random() < 0.3 * self.variety
                else f"{thing} with a {self._one(names, generator)}"
            )
            rows.append((text, np.array([-1, -1, 1, number, -1, -1]), _said(2, 3)))
        for state, ways in ((0, (*_GOOD, *_WITHOUT)), (1, (*_BAD, *_WITH))):
            for _ in range(3):
                text = self._one(ways, generator).format(self._one((*_ANY, UNKNOWN), generator))
                rows.append((text, np.array([-1, -1, state, -1, -1, -1]), _said(2)))
        return [(self._one(_OPENINGS, generator).format(self._article(text, generator)), *rest) for text, *rest in rows]

    def _one(self, texts: Sequence[str], generator: np.random.Generator) -> str:
        return texts[generator.integers(len(texts)) if generator.random() < self.variety else 0]

    def _article(self, text: str, generator: np.random.Generator) -> str:
        return text if text.split()[0] in ("a", "the") else self._one(("a ", "", "the "), generator) + text


def truth(
    facts: np.ndarray,  # (B, F) of the pictures
    told: np.ndarray,  # (P, F) of the pictures that the captions were written for
    said: np.ndarray,  # (P, F) bool: what the captions mention
) -> np.ndarray:  # (B, P) bool
    """Say which caption is true of which picture: where all that it mentions holds."""
    return ((facts[:, None] == told[None]) | ~said[None]).all(-1)


def _said(*numbers: int) -> np.ndarray:
    return np.isin(np.arange(len(FACTS)), numbers)
