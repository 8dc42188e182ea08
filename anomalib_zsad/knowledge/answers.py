"""A model's answer, out of whatever it was wrapped in."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_FENCE = re.compile(r"```(?:\w+)?\s*(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_TRIES = 40  # openings of JSON that are tried in one answer
_DEPTH = 4  # wrappings that are taken off


class MalformedAnswerError(ValueError):
    """An answer without usable JSON."""


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Args:
        descriptions: As the model wrote them.
        background: "" where there is none.
        anomaly_visible: False only where the model said that it sees no anomaly.
    """

    descriptions: tuple[str, ...]
    background: str = ""
    anomaly_visible: bool = True


def parse_answer(*texts: str | None) -> Answer:
    """Find the answer in the texts of a message.

    Models put their JSON into `content` or into `thinking`, between other words, into a code fence, into another object
    or into a string.

    Args:
        *texts: Where it may be, the likeliest first.

    Raises:
        MalformedAnswerError: If none of them holds it.
    """
    for text in texts:
        for value in _json_in(text or ""):
            answer = _answer_in(value)
            if answer is not None:
                return answer
    first = next(filter(None, texts), "")
    shown = "".join(filter(str.isprintable, first[:60]))
    msg = f"expected JSON with the key descriptions, got {shown!r}"
    raise MalformedAnswerError(msg)


def _json_in(text: str) -> Iterator[Any]:
    for piece in (text, *_FENCE.findall(text)):
        try:
            yield json.loads(piece)
        except (ValueError, RecursionError):  # noqa: PERF203
            continue
    decoder = json.JSONDecoder()
    position, tries = 0, 0
    while (opening := _OPENING.search(text, position)) and tries < _TRIES:
        tries += 1
        try:
            value, position = decoder.raw_decode(text, opening.start())
            yield value
        except (ValueError, RecursionError):
            position = opening.end()


def _answer_in(value: Any, depth: int = _DEPTH) -> Answer | None:
    if isinstance(value, str) and depth:
        return next(filter(None, (_answer_in(inner, depth - 1) for inner in _json_in(value))), None)
    if isinstance(value, list):
        descriptions = _descriptions_in(value)
        return Answer(descriptions) if descriptions else None
    if not isinstance(value, dict):
        return None
    fields = {key.strip().lower(): inner for key, inner in value.items()}
    visible = str(fields.get("anomaly_visible", True)).strip().lower() != "false"
    if "descriptions" in fields or not visible:
        descriptions = _descriptions_in(fields.get("descriptions"))
        background = fields.get("background")
        if descriptions or not visible:
            return Answer(descriptions, background if isinstance(background, str) else "", visible)
        return None
    wrapped = (
        (_answer_in(inner, depth - 1) for inner in value.values() if isinstance(inner, dict | str)) if depth else ()
    )
    return next(filter(None, wrapped), None)


def _descriptions_in(value: Any) -> tuple[str, ...]:
    """Strings, or objects of which the longest string is the description; nothing where anything else is among them."""
    items = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    found = []
    for item in items:
        texts = [inner for inner in item.values() if isinstance(inner, str)] if isinstance(item, dict) else [item]
        if not texts or not isinstance(texts[0], str):
            return ()
        found.append(max(texts, key=len))
    return tuple(found)
