"""The connection to a server that may be slow, endless, or behind a proxy."""

import ipaddress
import queue
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from anomalib_zsad.knowledge.answers import MalformedAnswerError

_LONGEST = 16 << 20  # bytes of an answer

_T = TypeVar("_T")


def within(seconds: float, work: Callable[[Callable[[], None]], _T]) -> _T:
    """Do what must not take longer, however slowly its bytes come.

    Args:
        seconds: To wait for the result, or for the next sign of it.
        work: Is handed a function to call at each sign. It runs in a thread, which is left alone when time is over.

    Raises:
        TimeoutError: If time is over.
    """
    heard = time.monotonic()
    outcome: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()

    def hear() -> None:
        nonlocal heard
        heard = time.monotonic()

    def run() -> None:
        try:
            outcome.put((work(hear), None))
        except BaseException as error:  # raised by the thread that waits
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while (left := heard + seconds - time.monotonic()) > 0:
        with suppress(queue.Empty):
            result, error = outcome.get(timeout=left)
            break
    else:
        msg = f"nothing came within {seconds:g} s"
        raise TimeoutError(msg)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there is one where there is no error


def proxy_for(address: str) -> str | None:
    """Return the proxy of the environment for an address; None for this machine, or where there is none."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    host = parts.hostname or ""
    if not host or _is_local(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def masked(address: str) -> str:
    """Hide a name and a password in an address."""
    return re.sub(r"^(\w+://)?.*@", r"\1***@", address)


class BoundedTransport(httpx.HTTPTransport):
    """A connection whose answers end."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and count what comes."""
        response = super().handle_request(request)
        response.headers.pop("content-encoding", None)  # not asked for, and a small answer may unpack to any length
        response.stream = _Bounded(response.stream)  # type: ignore[arg-type]  # a synchronous stream
        return response


class _Bounded(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        for part in self._stream:
            length += len(part)
            if length > _LONGEST:
                msg = f"the answer is longer than {_LONGEST >> 20} MiB"
                raise MalformedAnswerError(msg)
            yield part

    def close(self) -> None:
        self._stream.close()


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
