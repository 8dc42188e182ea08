"""Which descriptions are good enough for a knowledge base."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from anomalib_zsad.knowledge.schema import MAX_TOKENS
from anomalib_zsad.knowledge.wording import denies_damage, is_english, names_damage

MIN_WORDS, MAX_WORDS = 5, 60
_MIN_ASCII = 0.9
_SAME = 0.9  # share of common words from which two descriptions count as one
_MARKER = re.compile(r"^(?:[-*•]|\(?\d{1,2}[.):])\s+")
_BREAKS = re.compile(r"[.!?;](?=\s)|,(?=\s)|\s(?:and|with|which|where)(?=\s)")
_DANGLING = re.compile(
    r"(?:[\s,;]+(?:and|or|but|nor|with|without|which|that|where|while|as|from|of|in|into|on|onto|at|by|to|for|near|over|"
    r"under|along|across|around|through|between|a|an|the))+$",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:can ?not|can['’]t|unable to|am not able to)\b.{0,20}"
    r"\b(?:see|view|describe|identify|analy[sz]e|provide|assist|process)\b"
    r"|\b(?-i:I)(?:['’]\w+| (?:am|can|cannot|could|do|don|have|need|only|see|was|will|would))\b"
    r"|\bno image\b|\bsorry\b|\bapologi[sz]e\b|\bas an ai\b|\blanguage model\b|\bplease\b|\bupload",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:no|not any|without any?|free of|free from)\b(?: \w+){0,2} "
    r"(?:anomal(?:y|ies)|defects?|damage|abnormalit(?:y|ies)|imperfections?)\b"
    r"|\b(?:appears|looks|seems)(?: to be)? (?:normal|intact|undamaged|fine)\b"
    r"|\bflawless\b|\bin (?:good|perfect) condition\b",
    re.IGNORECASE,
)


def tidy(text: str) -> str:
    """Take a model's sentence out of its list: one line, no marker in front, no quotes around, nothing unprintable."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return _MARKER.sub("", line).strip("\"'`“”* ")


def count_tokens(text: str) -> int:
    """Count CLIP's tokens of a text, without start and end."""
    return len(_tokenizer().encode(text))


def shorten(text: str) -> str:
    """Leave out the last clauses of a text that is too long; the text itself where that does not help."""
    if _fits(text):
        return text
    ends = [found.start() for found in _BREAKS.finditer(text)]
    shorter = (_DANGLING.sub("", text[:end].rstrip(" ,;")) + "." for end in reversed(ends))
    short = next(filter(_fits, shorter), text)
    return short if len(short.split()) >= MIN_WORDS else text


def objection(text: str, accepted: Sequence[str] = ()) -> str | None:
    """Return the objection to a description; None if it is acceptable.

    Args:
        text: The description.
        accepted: Those of the same class that are taken already.
    """
    if not MIN_WORDS <= len(text.split()) <= MAX_WORDS:
        return f"{len(text.split())} words, expected {MIN_WORDS} to {MAX_WORDS}"
    if (tokens := count_tokens(text)) > MAX_TOKENS:
        return f"{tokens} tokens of CLIP, expected {MAX_TOKENS} at most"
    if sum(map(str.isascii, text)) < _MIN_ASCII * len(text):
        return "not English: expected nine of ten characters in ASCII"
    if not is_english(text):
        return "not English: expected a sentence with the articles and prepositions of English"
    for pattern, reason in ((_REFUSAL, "a refusal"), (_DENIAL, "it denies a defect")):
        if pattern.search(text):
            return f"{reason}, expected a description of a defect"
    if not names_damage(text):
        reason = "it denies a defect" if denies_damage(text) else "it names no kind of damage"
        return f"{reason}, expected one, such as a crack, a stain or a missing part"
    if is_repeated(text, accepted):
        return "a duplicate of another description of the class"
    return None


def is_repeated(text: str, others: Sequence[str]) -> bool:
    """Return whether one of the others says the same in nearly the same words."""
    return any(_alike(text, other) for other in others)


def _fits(text: str) -> bool:
    return len(text.split()) <= MAX_WORDS and count_tokens(text) <= MAX_TOKENS


def _alike(text: str, other: str) -> bool:
    words, others = (set(re.findall(r"\w+", each.casefold())) for each in (text, other))
    return len(words & others) > _SAME * len(words | others)


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
