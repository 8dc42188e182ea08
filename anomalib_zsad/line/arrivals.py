"""Images as they arrive, read in a thread of its own while the one before is scored."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, Protocol

from torch import Tensor

_READ_AHEAD = 2
_TICK = 0.1
"""Seconds after which a thread that waits looks whether it is to end."""
_PATIENCE = 5.0
"""Seconds that a camera or a network share may take to end; the process does not wait for longer."""


@dataclass(frozen=True)
class Arrival:
    """An image, or what is wrong with it.

    Args:
        image: What rows call it.
        identity: What distinguishes it from others of that name after a restart; None: it never comes again.
        pixels: RGB in [0, 1]; None: it cannot be read.
        error: Why it cannot be read.
    """

    image: str
    identity: list[int] | None
    pixels: Tensor | None = None  # (3, H, W)
    error: str | None = None


class Source(Protocol):
    """Where images come from."""

    name: str
    """What the page calls it."""
    keeps_all: bool
    """Whether images wait until they are scored; of a camera the latest one alone counts."""

    def skip(self, image: str, identity: list[int] | None) -> None:
        """Take note that an image is done; called before `arrivals`."""

    def arrivals(self, stop: threading.Event) -> Iterator[Arrival]:
        """Yield what is new, in order, until there is no more or `stop` is set."""


def read_ahead(
    source: Source,
    stop: threading.Event,
    idle: float = 1.0,
) -> Iterator[Arrival | None]:
    """Run a source in a thread of its own.

    Args:
        source: Its errors are raised here.
        stop: Ends both; images that were read and not yielded are those of the next run.
        idle: Seconds without an image after which None is yielded.
    """
    waiting: Queue[Any] = Queue(_READ_AHEAD if source.keeps_all else 1)
    thread = threading.Thread(target=_read, args=(source, stop, waiting), name="source", daemon=True)
    thread.start()
    try:
        while not stop.is_set():
            try:
                arrival = waiting.get(timeout=idle)
            except Empty:
                yield None
                continue
            if isinstance(arrival, BaseException):
                raise arrival
            if arrival is None:
                return
            yield arrival
    finally:
        stop.set()
        thread.join(_PATIENCE)


def _read(source: Source, stop: threading.Event, waiting: "Queue[Any]") -> None:
    last: BaseException | None = None
    try:
        for arrival in source.arrivals(stop):
            if not source.keeps_all:
                with suppress(Empty):
                    waiting.get_nowait()
            _put(arrival, stop, waiting)
            if stop.is_set():
                break
    except BaseException as error:  # it ends the other thread
        last = error
    _put(last, stop, waiting)


def _put(what: Any, stop: threading.Event, waiting: "Queue[Any]") -> None:
    while not stop.is_set():
        with suppress(Full):
            waiting.put(what, timeout=_TICK)
            return
