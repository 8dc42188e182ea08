"""New images of a folder: each whole, once, in the order in which they were written."""

import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from watchfiles import watch

from anomalib_zsad.data.reading import read_image
from anomalib_zsad.image_files import SUFFIXES, images_below, is_foreign
from anomalib_zsad.line.arrivals import Arrival
from anomalib_zsad.printing import printable


@dataclass
class _Seen:
    """A file that is not done.

    Args:
        path: The file.
        identity: Its size in bytes and the time of its last change in nanoseconds.
        since: When it was first seen so; seconds of the monotonic clock, as the next one.
        next_try: When to read it.
        has_failed: Whether it could not be read so far.
    """

    path: Path
    identity: list[int]
    since: float
    next_try: float
    has_failed: bool = False


class Folder:
    """The images of a folder and of the folders in it, those that are there and those that come.

    The file system reports changes. What it does not report, as on network shares, is found by listing the folder.

    Args:
        place: A folder, or a glob such as `in/*/top_*.png`; `**` stands for any folders.
        settle: Seconds for which a file has to stay unchanged before it is read.
        patience: Seconds after its last change for which a file that cannot be read may still become an image.
        listing: Seconds between two listings of the folder.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    keeps_all = True

    def __init__(self, place: str, settle: float = 0.5, patience: float = 10.0, listing: float = 10.0) -> None:
        self.name = place
        self.root, self._pattern = _root_and_pattern(place)
        self.settle, self.patience, self.listing = settle, patience, listing
        self._check_there()
        self._done: dict[str, list[int]] = {}
        self._pending: dict[str, _Seen] = {}
        self._listed = {self._name(path) for path in images_below(self.root)}

    def skip(self, image: str, identity: list[int] | None) -> None:
        """Take note that an image is done."""
        if identity is not None and image in self._listed:  # what is gone needs no memory
            self._done[image] = identity

    def arrivals(self, stop: threading.Event) -> Iterator[Arrival]:
        """Yield images as they become whole.

        Raises:
            FileNotFoundError: If the folder is gone.
        """
        next_listing = 0.0
        tick = max(1, round(1000 * min(self.settle, self.listing) / 2))
        # The first round comes when changes are being reported already, so that none is missed.
        for changes in watch(
            self.root,
            watch_filter=None,
            debounce=100,
            rust_timeout=tick,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
        ):
            self._check_there()
            now = time.monotonic()
            if now >= next_listing:
                self._list(now)
                next_listing = now + self.listing
            for path in {Path(path) for _, path in changes}:
                if path.is_relative_to(self.root):
                    self._look(path, now)
            for seen in self._ripe(now):
                if stop.is_set():
                    return
                arrival = self._read(seen, time.monotonic())
                if arrival is not None:
                    yield arrival

    def _check_there(self) -> None:
        if not self.root.is_dir():
            msg = f"{self.root}: expected a folder to watch, there is none (any more)"
            raise FileNotFoundError(msg)

    def _list(self, now: float) -> None:
        paths = images_below(self.root)
        names = {self._name(path) for path in paths}
        self._done = {name: identity for name, identity in self._done.items() if name in names}
        for path in paths:
            self._look(path, now)

    def _look(self, path: Path, now: float) -> None:
        """Take note of a file that is new or has changed; of a folder that is new, of those in it."""
        name = self._name(path)
        try:
            found = path.stat()
        except OSError:  # it is gone
            self._pending.pop(name, None)
            return
        if stat.S_ISDIR(found.st_mode) and not path.is_symlink():
            for image in images_below(path):
                self._look(image, now)
        identity = [found.st_size, found.st_mtime_ns]
        if self._done.get(name) == identity or not stat.S_ISREG(found.st_mode) or not self._is_meant(path):
            self._pending.pop(name, None)
            return
        seen = self._pending.get(name)
        if seen is None or seen.identity != identity:
            self._pending[name] = _Seen(path, identity, now, now + self.settle)

    def _ripe(self, now: float) -> list[_Seen]:
        """List what is to be read, in the order of writing; what may be whole soon is waited for, damaged files not."""
        for seen in [each for each in self._pending.values() if each.next_try <= now]:
            self._look(seen.path, now)  # not every change is reported
        ripe = []
        for seen in sorted(self._pending.values(), key=lambda seen: (seen.identity[1], seen.path)):
            if seen.next_try <= now:
                ripe.append(seen)
            elif not seen.has_failed:
                break
        return ripe

    def _read(self, seen: _Seen, now: float) -> Arrival | None:
        name, pixels, reason = self._name(seen.path), None, None
        try:
            pixels = read_image(seen.path)
            found = seen.path.stat()
            unchanged = [found.st_size, found.st_mtime_ns] == seen.identity
        except OSError as error:
            reason, unchanged = str(error), seen.path.exists()
        if not unchanged or (pixels is None and now < seen.since + self.patience):
            seen.next_try, seen.has_failed = now + self.settle, True
            return None
        self._done[name] = seen.identity
        del self._pending[name]
        return Arrival(name, seen.identity, pixels, reason)

    def _name(self, path: Path) -> str:
        return printable(path.relative_to(self.root).as_posix())

    def _is_meant(self, path: Path) -> bool:
        parts = path.relative_to(self.root).parts
        is_image = path.suffix.lower() in SUFFIXES and not any(map(is_foreign, parts))
        return is_image and _matches(parts, self._pattern)


def _root_and_pattern(place: str) -> tuple[Path, tuple[str, ...]]:
    """Split a glob before its first part with a wildcard; a folder stands for all that is in it."""
    if not has_magic(place) or Path(place).is_dir():
        return Path(place).resolve(), ("**",)
    parts = Path(place).parts
    first = next(number for number, part in enumerate(parts) if has_magic(part))
    return Path(*parts[:first]).resolve(), parts[first:]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
