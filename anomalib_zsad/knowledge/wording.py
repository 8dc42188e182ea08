"""Checks that a sentence is English and asserts a kind of damage."""

import re
from pathlib import Path

import yaml

_WORDS = {
    name: words.split()
    for name, words in yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8")).items()
}
_ENGLISH, _FOREIGN = set(_WORDS["english"]), set(_WORDS["foreign"])

_KIND = re.compile(
    rf"\b(?!{'|'.join(_WORDS['harmless'])})(?:{'|'.join(_WORDS['things'] + _WORDS['bodies'] + _WORDS['differing'])})"
    r"|\b(?:bright|dark|larg|light|long|narrow|pal|short|small|thick|thinn)er\b",
    re.IGNORECASE,
)
_ANY = re.compile(rf"{_KIND.pattern}|\b(?:abnormal|anomal|defect|fault|flaw|imperfect|issue|problem)", re.IGNORECASE)
_CLAUSES = re.compile(  # a comma continues a list of denied kinds, unless a new clause begins after it
    r"[.;:!?()]|,(?= (?:and (?:a|an|has|is|its|several|the)|leaving|so|with)\b)"
    r"|\b(?:although|because|but|except|however|instead|since|though|where|whereas|which|while|yet)\b",
    re.IGNORECASE,
)
_WITHOUT = r"without|lacks?|lacking"
_NEGATION = re.compile(
    rf"\b(?:{_WITHOUT}|no(?! longer)|not(?! only)|never|none|neither|nor|nothing|free (?:of|from)|absence of|devoid of|"
    r"unable|fails? to|cannot|\w+n['’]t)\b",
    re.IGNORECASE,
)
_COPULA = re.compile(r"\b(?:are|be|been|can|could|is|was|were)\s*$", re.IGNORECASE)
_UNSEEN = re.compile(r"\s+(?:\w+ly )?(?:apparent|detected|evident|found|noticeable|observed|present|seen|visible)\b")


def is_english(text: str) -> bool:
    """Return whether a sentence contains function words of English, and fewer of related languages."""
    words = re.findall(r"\w+", text.casefold())
    english = sum(word in _ENGLISH for word in words)
    return english > sum(word in _FOREIGN for word in words)


def names_damage(text: str) -> bool:
    """Return whether a kind of damage is asserted."""
    return any(_is_named(clause) for clause in _CLAUSES.split(text))


def denies_damage(text: str) -> bool:
    """Return whether damage is mentioned only to deny it."""
    return bool(_ANY.search(text) and _NEGATION.search(text)) and not names_damage(text)


def _is_named(clause: str) -> bool:
    negation = _NEGATION.search(clause)
    if negation is None:
        return bool(_KIND.search(clause))
    before, after = clause[: negation.start()], clause[negation.end() :]
    if re.fullmatch(_WITHOUT, negation[0], re.IGNORECASE):  # a part that is not there, or damage that is not
        return bool(_KIND.search(before)) or not _ANY.search(after)
    is_unseen = _COPULA.search(before) and _UNSEEN.match(after)
    return bool(_KIND.search(before)) and not is_unseen
