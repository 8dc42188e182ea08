"""One question to one model: again where the answer is no good, never again where it is known."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from anomalib_zsad.knowledge.answers import Answer, MalformedAnswerError, parse_answer
from anomalib_zsad.knowledge.journal import Journal, key_of
from anomalib_zsad.knowledge.ollama_model import (
    BrokenConnectionError,
    OllamaModel,
    RefusedError,
    SlowAnswerError,
    UnreachableError,
)
from anomalib_zsad.knowledge.questions import Question
from anomalib_zsad.knowledge.schema import Generator

logger = logging.getLogger(__name__)

_CONTEXT = 4096  # tokens that the model keeps in view: the image and the answer
_RETRY_TEMPERATURE = 0.4  # at temperature 0 a repeated question would have much the same answer
_ANY_JSON_FROM = 2  # attempts with the answer's schema: some servers and models break on one
_LONGEST_PAUSE = 30.0  # seconds


@dataclass(frozen=True)
class Settings:
    """How models are asked.

    Args:
        n: Descriptions of a class.
        m: Descriptions of an image.
        seed: Of the first attempt; each further attempt adds one.
        temperature: Of the first attempt; further ones have 0.4 at least.
        retries: Further attempts where an answer is missing or not good enough.
        pause: Seconds to wait after the first failure of the server; twice as long after each further one.
    """

    n: int = 5
    m: int = 1
    seed: int = 0
    temperature: float = 0.0
    retries: int = 3
    pause: float = 1.0

    def __post_init__(self) -> None:
        least = {"n": 1, "m": 1, "temperature": 0, "retries": 0, "pause": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                msg = f"{name} must be {bound} or more, got {getattr(self, name)}"
                raise ValueError(msg)

    def options(self, attempt: int, length: int) -> dict[str, Any]:
        """Write down the options of a model, for an answer of so many tokens."""
        retried = max(self.temperature, _RETRY_TEMPERATURE)
        return {
            "temperature": retried if attempt else self.temperature,
            "seed": self.seed + attempt,
            "num_ctx": _CONTEXT,
            "num_predict": length,
        }


@dataclass(frozen=True)
class Origin:
    """Which attempt an answer comes from, counted from 0, and the seed that it had."""

    attempt: int
    seed: int


class Asker:
    """A model with its question.

    Args:
        model: The model.
        question: The question.
        settings: How to ask.
        journal: Where answers are kept before anything is made of them.
        vision: Whether the question is about images.

    Raises:
        ConnectionError: If the server cannot be reached.
        ValueError: If the model must be pulled first or cannot see.
    """

    def __init__(
        self, model: OllamaModel, question: Question, settings: Settings, journal: Journal, *, vision: bool = False
    ) -> None:
        self._model = model
        self._question = question
        self._settings = settings
        self._journal = journal
        self._digest = model.check(vision=vision)
        self._latest = ""

    def generator(self) -> Generator:
        """Return where the answers come from, and when the last of them came."""
        retries = {"retries": self._settings.retries, "retry_options": self._options(1)}
        return Generator(
            backend="ollama",
            model=self._model.name,
            digest=self._digest,
            prompt=f"{self._question.system}\n{self._question.user}",
            prompt_sha256=self._question.sha256,
            options={**self._options(0), **retries},
            created=self._latest,
        )

    def answers(
        self, name: str, about: str = "", image: Callable[[], bytes] | None = None
    ) -> Iterator[tuple[Origin, Answer]]:
        """Ask as often as is allowed, while the caller wants more.

        Args:
            name: The class, as sentences call it.
            about: The SHA-256 of the image that the question is about.
            image: Reads that image, as PNG.

        Yields:
            Answers with where they come from; those that cannot be read are left out.

        Raises:
            ConnectionError: If the server is still away at the last attempt.
            TimeoutError: If no answer comes in time, even then.
            ModelMissingError: If the model is gone.
            UnreadableImageError: If the image cannot be read.
        """
        pause = self._settings.pause
        for attempt in range(self._settings.retries + 1):
            is_last = attempt == self._settings.retries
            options = self._options(attempt)
            key = key_of(self._model.name, self._digest, self._question.sha256, name, about, options)
            try:
                record = self._journal.get(key) or self._ask(key, name, options, attempt, image)
                self._latest = max(self._latest, str(record.get("created", "")))
                yield Origin(attempt, options["seed"]), _read(record)
            except MalformedAnswerError as error:
                logger.log(
                    logging.WARNING if is_last else logging.DEBUG, "Attempt %d about %s: %s", attempt, name, error
                )
            except (RefusedError, UnreachableError, BrokenConnectionError, SlowAnswerError) as error:
                if not is_last:
                    logger.warning("%s; asking again", error)
                elif isinstance(error, RefusedError):
                    logger.warning("%s; nothing more is asked about %s", error, name)
                    return
                else:
                    raise
                time.sleep(min(pause, _LONGEST_PAUSE))
                pause *= 2

    def _ask(
        self, key: str, name: str, options: dict[str, Any], attempt: int, image: Callable[[], bytes] | None
    ) -> dict[str, Any]:
        messages = self._question.about(name)
        if image:
            messages[-1]["images"] = [image()]
        reply = self._model.ask(messages, options, self._question.answer if attempt < _ANY_JSON_FROM else None)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        said = {"content": reply.content, "thinking": reply.thinking, "complete": reply.complete, "created": now}
        return self._journal.add(key, model=self._model.name, name=name, **said)

    def _options(self, attempt: int) -> dict[str, Any]:
        return self._settings.options(attempt, self._question.length)


def _read(record: dict[str, Any]) -> Answer:
    if not record["complete"]:
        msg = "the answer is longer than it may be"
        raise MalformedAnswerError(msg)
    return parse_answer(record["content"], record["thinking"])
