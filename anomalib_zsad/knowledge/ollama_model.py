"""A model on an Ollama server, asked through the `ollama` package."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from anomalib_zsad.knowledge.answers import MalformedAnswerError

DEFAULT_HOST = "http://127.0.0.1:11434"
_KEEP_ALIVE = "10m"
_NOT_FOUND = 404


class UnreachableError(ConnectionError):
    """No server answers at the address."""


class BrokenConnectionError(ConnectionError):
    """The server went away in the middle of an answer."""


class SlowAnswerError(TimeoutError):
    """No answer in time."""


class ModelMissingError(ValueError):
    """The server does not have the model."""


class RefusedError(ValueError):
    """The server answered with an error."""


@dataclass(frozen=True)
class Reply:
    """One answer.

    Args:
        content: What the model said.
        thinking: What it said before; some models put the answer there.
        complete: Whether it came to its end by itself.
    """

    content: str
    thinking: str
    complete: bool


class OllamaModel:
    """A model on an Ollama server.

    Args:
        name: As in `ollama list`.
        host: The server; $OLLAMA_HOST by default, and this machine where that is not set.
        timeout: Seconds to wait for an answer; with `stream` for its next piece.
        stream: Whether answers come piece by piece.

    Raises:
        OSError: If the `ollama` package is not installed, or what the environment's proxy needs.
        UnreachableError: If the host is no address.
        ValueError: If the timeout is not positive.
    """

    def __init__(self, name: str, host: str | None = None, timeout: float = 120.0, *, stream: bool = False) -> None:
        self.name = name
        self.host = (host or os.environ.get("OLLAMA_HOST") or "").strip() or DEFAULT_HOST
        if not 0 < timeout < threading.TIMEOUT_MAX:
            msg = f"timeout must be more than 0 seconds, got {timeout:g}"
            raise ValueError(msg)
        self.timeout = timeout
        self.stream = stream
        try:
            import ollama
        except ImportError as error:
            msg = "asking a model needs the ollama package: pip install ollama"
            raise OSError(msg) from error
        from anomalib_zsad.knowledge.connection import masked, proxy_for

        self._shown = masked(self.host)
        with self._talking():
            self._proxy = proxy_for(self.host)
            transport = self._transport()
            headers = {"Accept-Encoding": "identity"}
            self._client: Any = ollama.Client(self.host, timeout=timeout, transport=transport, headers=headers)

    def check(self, *, vision: bool = False) -> str:
        """Check that the model is there and can do what it is asked for.

        Args:
            vision: Whether it will be asked about images.

        Returns:
            The model's digest, "" if the server does not report it.

        Raises:
            ModelMissingError: If it must be pulled first.
            ValueError: If it cannot see images.
            ConnectionError: If the server cannot be reached.
        """
        with self._talking():
            shown = self._within(lambda _: self._client.show(self.name))
            listed = self._within(lambda _: self._client.list()).models
        abilities = getattr(shown, "capabilities", None)  # servers before 2025 do not report them
        if vision and abilities is not None and "vision" not in abilities:
            msg = (
                f"the model {self.name} cannot see images (it can: {', '.join(abilities)}): "
                "pass one with vision, such as --vqa llava-llama3"
            )
            raise ValueError(msg)
        names = {self.name, f"{self.name}:latest"}
        digest = next((each.digest or "" for each in listed if each.model in names), "")
        return "".join(filter(str.isprintable, digest))

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        answer: Mapping[str, Any] | None,
    ) -> Reply:
        """Ask once.

        Args:
            messages: Those of the chat; images are bytes of PNG files.
            options: Temperature, seed and so on.
            answer: The JSON schema of the answer; None for any JSON, where a server knows no schemas.

        Raises:
            UnreachableError: If no server answers at the address.
            BrokenConnectionError: If the answer breaks off.
            SlowAnswerError: If it does not come in time.
            ModelMissingError: If the model must be pulled first.
            RefusedError: If the server reports an error.
            MalformedAnswerError: If the answer is not Ollama's protocol.
        """
        with self._talking():
            replied = partial(
                self._client.chat,
                self.name,
                messages,
                format="json" if answer is None else dict(answer),
                options=dict(options),
                stream=self.stream,
                keep_alive=_KEEP_ALIVE,
            )
            pieces = self._within(lambda hear: list(_heard(replied(), hear)) if self.stream else [replied()])
            last = pieces[-1] if pieces else None
            if last is None or not last.done:
                raise BrokenConnectionError(self._broken())
            return Reply(
                "".join(piece.message.content or "" for piece in pieces),
                "".join(getattr(piece.message, "thinking", None) or "" for piece in pieces),
                last.done_reason != "length",
            )

    def _within(self, work: Callable[[Callable[[], None]], Any]) -> Any:
        from anomalib_zsad.knowledge.connection import within

        return within(self.timeout, work)

    def _transport(self) -> Any:
        import httpx

        from anomalib_zsad.knowledge.connection import BoundedTransport, masked

        try:
            return BoundedTransport(proxy=self._proxy)
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            needs = "needs a package: pip install socksio" if isinstance(error, ImportError) else "is none"
            msg = f"the proxy {masked(str(self._proxy))} of the environment {needs}; NO_PROXY names hosts without one"
            raise OSError(msg) from error

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn errors into one message."""
        import httpx
        import ollama

        try:
            yield
        except (BrokenConnectionError, MalformedAnswerError):
            raise
        except ollama.ResponseError as error:
            raise self._reported(error) from error
        except httpx.TransportError as error:
            if isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | httpx.UnsupportedProtocol
            ):
                raise UnreachableError(self._unreachable()) from error
            if isinstance(error, httpx.TimeoutException):
                raise SlowAnswerError(self._slow()) from error
            raise BrokenConnectionError(self._broken()) from error
        except TimeoutError as error:
            raise SlowAnswerError(self._slow()) from error
        except (ConnectionError, httpx.InvalidURL) as error:
            raise UnreachableError(self._unreachable()) from error
        except (ValueError, TypeError, AttributeError, RecursionError, httpx.HTTPError) as error:
            if not hasattr(self, "_client"):  # the address has no form that the client understands
                raise UnreachableError(self._unreachable()) from error
            raise MalformedAnswerError(self._foreign()) from error

    def _reported(self, error: Any) -> ValueError:
        if not _is_of_ollama(error):
            return RefusedError(f"{self._foreign()} ({error.status_code})")
        reason = "".join(filter(str.isprintable, str(error.error)))[:200]
        if error.status_code == _NOT_FOUND and "not found" in reason and "model" in reason:
            return ModelMissingError(
                f"Ollama at {self._shown} has no model {self.name}: fetch it with `ollama pull {self.name}`"
            )
        return RefusedError(f"Ollama at {self._shown} reports an error of {self.name}: {reason} ({error.status_code})")

    def _unreachable(self) -> str:
        from anomalib_zsad.knowledge.connection import masked

        way = f" through the proxy {masked(proxy)}" if (proxy := getattr(self, "_proxy", None)) else ""
        return f"Ollama cannot be reached at {self._shown}{way}: start it with `ollama serve`, or set OLLAMA_HOST"

    def _slow(self) -> str:
        return f"Ollama at {self._shown} gave no answer of {self.name} within {self.timeout:g} s: pass --timeout"

    def _foreign(self) -> str:
        return f"what answers at {self._shown} does not speak Ollama's protocol"

    def _broken(self) -> str:
        return f"the connection to Ollama at {self._shown} broke off in the middle of an answer of {self.name}"


def _heard(pieces: Iterator[Any], hear: Callable[[], None]) -> Iterator[Any]:
    for piece in pieces:
        hear()
        yield piece


def _is_of_ollama(error: Any) -> bool:
    """Return whether an error came as Ollama reports one: a JSON object with a sentence under `error`."""
    response = getattr(error.__context__, "response", None)  # none of an error in the middle of a stream
    try:
        return response is None or isinstance(response.json()["error"], str)
    except (ValueError, TypeError, KeyError):
        return False
