"""The questions to the models and the format of the answers."""

import hashlib
from dataclasses import dataclass
from typing import Any

_CLASS = "{class}"
_COUNT = "{count}"


@dataclass(frozen=True)
class Question:
    """A question about a class, or about an image of it.

    Both texts are constants of this module; only our own names are put into them, by replacement.

    Args:
        user: The printed wording of the paper.
        system: How to answer.
        answer: The JSON schema of the answer.
        length: The most tokens of an answer.
    """

    user: str
    system: str
    answer: dict[str, Any]
    length: int

    @property
    def sha256(self) -> str:
        """The digest of both texts, before a class is put in."""
        return hashlib.sha256(f"{self.system}\n{self.user}".encode()).hexdigest()

    def about(self, name: str) -> list[dict[str, Any]]:
        """Write the messages about a class."""
        texts = (("system", self.system), ("user", self.user))
        return [{"role": role, "content": text.replace(_CLASS, name)} for role, text in texts]


def about_class(count: int) -> Question:
    """Ask for descriptions of anomalous images of a class."""
    return Question(
        user="Q: Describe what an abnormal image of {class} looks like?",
        system=(
            "Answer with exactly {count} different one-sentence descriptions, each at most 40 words, in English, each "
            "naming the {class}, as JSON with key `descriptions`. Put one English sentence on what a normal image of "
            "{class} shows under key `background`."
        ).replace(_COUNT, str(count)),
        answer=_object({"descriptions": _strings(count, count), "background": {"type": "string"}}),
        length=max(512, 100 * count),
    )


def about_image(count: int) -> Question:
    """Ask for the defects on an image."""
    return Question(
        user=(
            "Q: Identify anomalies in the input image of the specified class ({class}). Describe each anomaly's "
            "location, color, shape, size, and other characteristics."
        ),
        system=(
            "Answer with {count} English sentence(s) of at most 40 words about visible defects only; set "
            "`anomaly_visible` to false if you see none; JSON keys `anomaly_visible`, `descriptions`."
        ).replace(_COUNT, str(count)),
        answer=_object({"anomaly_visible": {"type": "boolean"}, "descriptions": _strings(0, count)}),
        length=max(256, 100 * count),
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _strings(least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "minItems": least, "maxItems": most}
