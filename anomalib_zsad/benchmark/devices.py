"""A device for each of the cells that run at the same time on one machine."""

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout

_CUDA = {"auto", "gpu", "cuda"}
_WAIT = 0.1


@dataclass(frozen=True)
class Devices:
    """The devices of a machine, handed out in turn to whoever runs a cell there.

    A place is a locked file, so that it is free again when its process ends, however that comes. Where whoever started
    the process shows it a single device (CUDA_VISIBLE_DEVICES), there is nothing to hand out.

    Args:
        places: How many cells run at a time, at most.
        folder: Where the locks are, on each machine.
    """

    places: int
    folder: Path = field(
        default_factory=lambda: Path(tempfile.gettempdir(), f"anomalib-zsad-devices-{secrets.token_hex(8)}")
    )

    @contextmanager
    def one(self, accelerator: str = "auto") -> Iterator[int | list[int]]:
        """Yield what the trainer takes as `devices`: the device of a place that nobody else has meanwhile.

        Args:
            accelerator: That of the trainer.
        """
        count = torch.cuda.device_count() if accelerator in _CUDA else 0
        if count < 2:
            yield 1
            return
        place, lock = self._free_place()
        try:
            yield [place % count]
        finally:
            lock.release()

    def _free_place(self) -> tuple[int, FileLock]:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            # A process tends to come back to its device, where it has left memory.
            for place in sorted(range(self.places), key=lambda place: (place - os.getpid()) % self.places):
                lock = FileLock(self.folder / f"{place}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                return place, lock
            time.sleep(_WAIT)
