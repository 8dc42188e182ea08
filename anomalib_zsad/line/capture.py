"""Frames of a video file, and of what OpenCV opens as a camera or a stream."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2

from anomalib_zsad.data.reading import image_of
from anomalib_zsad.line.arrivals import Arrival

logger = logging.getLogger(__name__)

_REOPEN = 2.0
"""Seconds after which a camera that gives no frame is opened anew."""
_TIMEOUT = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]


class Video:
    """The frames of a video file, in order; a run that was ended goes on where it was.

    Args:
        path: The file.
        interval: Least number of seconds between two frames that count, by the clock of the video.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If OpenCV cannot read it.
    """

    keeps_all = True

    def __init__(self, path: Path, interval: float = 0.0) -> None:
        if not path.is_file():
            msg = f"There is no video {path}."
            raise FileNotFoundError(msg)
        self.name, self.path, self.interval = path.name, path, interval
        stat = path.stat()
        self._file = [stat.st_size, stat.st_mtime_ns]
        self._first = 0
        self._open().release()

    def skip(self, image: str, identity: list[int] | None) -> None:
        """Take note that a frame is done."""
        del image
        if identity is not None and identity[:-1] == self._file:
            self._first = max(self._first, identity[-1] + 1)

    def arrivals(self, stop: threading.Event) -> Iterator[Arrival]:
        """Yield the frames that are not done."""
        capture, number, due = self._open(), 0, 0.0
        try:
            while not stop.is_set() and capture.grab():
                now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if now >= due:
                    due = now + self.interval
                    if number >= self._first:
                        yield _arrival(f"{self.name} {number}", [*self._file, number], *capture.retrieve())
                number += 1
            expected = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        if number < expected and not stop.is_set():
            logger.warning("%s: expected %d frames, could read %d", self.path, expected, number)

    def _open(self) -> Any:
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            msg = f"{self.path}: expected a video that OpenCV reads, got another or a damaged file"
            raise ValueError(msg)
        return capture


class Camera:
    """The latest frames of a camera or a stream; one that breaks off is opened again.

    Args:
        address: The number of a camera, or the address of a stream such as rtsp://10.0.0.7/live.
        interval: Least number of seconds between two frames that count.

    Raises:
        ValueError: If it is neither a number nor an address, or cannot be opened.
    """

    keeps_all = False

    def __init__(self, address: str, interval: float = 0.0) -> None:
        if not address.isdecimal() and "://" not in address:
            msg = f"expected the number of a camera or an address such as rtsp://10.0.0.7/live, got {address!r}"
            raise ValueError(msg)
        self.interval = interval
        self._address = address
        self.name = f"camera {address}" if address.isdecimal() else _without_password(address)
        self._capture = self._opened()
        if not self._capture.isOpened():
            msg = f"{self.name} cannot be opened: expected a camera or a stream that OpenCV reads"
            raise ValueError(msg)

    def skip(self, image: str, identity: list[int] | None) -> None:
        """Frames of a camera never come again."""

    def arrivals(self, stop: threading.Event) -> Iterator[Arrival]:
        """Yield frames until it is to end."""
        number, due, broken = 0, 0.0, False
        try:
            while not stop.is_set():
                if not self._capture.grab():
                    if not broken:
                        logger.warning("%s gives no frame; it is opened again until it does", self.name)
                    broken = True
                    stop.wait(_REOPEN)
                    self._capture.release()
                    self._capture = self._opened()
                    continue
                broken = False
                if time.monotonic() >= due:
                    due = time.monotonic() + self.interval
                    yield _arrival(f"{self.name} {number}", None, *self._capture.retrieve())
                number += 1
        finally:
            self._capture.release()

    def _opened(self) -> Any:
        if self._address.isdecimal():
            return cv2.VideoCapture(int(self._address))
        return cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, _TIMEOUT)


def _arrival(
    image: str,
    identity: list[int] | None,
    is_whole: bool,
    frame: Any,  # (H, W, 3) uint8, BGR
) -> Arrival:
    if not is_whole or frame is None:
        return Arrival(image, identity, error="the frame is damaged")
    return Arrival(image, identity, image_of(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
