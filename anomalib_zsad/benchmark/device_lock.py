"""A device for each of the cells that run at the same time on one machine."""

import getpass
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

_CUDA = {"auto", "gpu", "cuda"}


@contextmanager
def own_device(
    accelerator: str = "auto",
    folder: Path | None = None,
) -> Iterator[int | list[int]]:
    """Yield what the trainer takes as `devices`: a device that no other cell uses meanwhile.

    The places of a machine are numbered, the devices go round: the first free place is taken. A place is a locked
    file, so that it is free again when its process ends, however that comes. Where whoever started the process shows
    it a single device (CUDA_VISIBLE_DEVICES), there is nothing to hand out.

    Args:
        accelerator: That of the trainer.
        folder: Where the locks are; of this machine and user by default.
    """
    count = torch.cuda.device_count() if accelerator in _CUDA else 0
    if count < 2:
        yield 1
        return
    folder = folder or Path(tempfile.gettempdir(), f"anomalib-zsad-devices-{getpass.getuser()}")
    place, lock = _free_place(folder)
    try:
        yield [place % count]
    finally:
        lock.release()


def _free_place(folder: Path) -> tuple[int, FileLock]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in itertools.count():
        lock = FileLock(folder / f"{place}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return place, lock
    raise AssertionError
