"""Jobs in several processes through joblib: on this machine, or wherever joblib has a backend for."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from joblib import Parallel, delayed, parallel_config
from pydantic import ConfigDict

logger = logging.getLogger(__name__)

Job = TypeVar("Job")

LOST = "the process that ran it, or one beside it, ended without a word (out of memory?)"

_last: list[Any] = []


@dataclass
class Launcher:
    """Where the cells of a benchmark run.

    Args:
        jobs: How many at a time; 1 stays in this process.
        backend: joblib's name of an engine: `loky` (processes of this machine), `dask`, or one that is registered.
        options: Arguments of that engine, such as `scheduler_host` of `dask`.
        register: A function to call first, by its path, such as `ray.util.joblib.register_ray` for the engine `ray`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    jobs: int = 1
    backend: str = "loky"
    options: dict[str, Any] = field(default_factory=dict)
    register: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            msg = f"expected at least 1 job at a time, got {self.jobs}"
            raise ValueError(msg)

    def run(self, function: Callable[[Job], object], jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
        """Call a function with every job; each is tried once.

        Args:
            function: What it returns is not used. It must not raise, and in other processes it must be picklable.
            jobs: Picklable too.

        Yields:
            Each job when it is done, in any order, and `LOST` where it cannot be known to be.
        """
        if self.jobs > 1:
            yield from self._in_processes(function, jobs)
            return
        for job in jobs:
            function(job)
            yield job, None

    def _in_processes(self, function: Callable[[Job], object], jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
        waiting = list(range(len(jobs)))
        while waiting:
            handed_out: list[int] = []
            done: set[int] = set()
            try:
                for number in self._parallel()(_noting(handed_out, function, jobs, waiting)):
                    done.add(number)
                    yield jobs[number], None
                return
            except BrokenExecutor as error:  # one process has died, and with it all of them
                if not handed_out:
                    raise
                logger.warning("A process ended before its job was done: %s", error)
                yield from ((jobs[number], LOST) for number in handed_out if number not in done)
                waiting = [number for number in waiting if number not in handed_out]

    def _parallel(self) -> Parallel:
        if self.register:
            module, name = self.register.rsplit(".", 1)
            getattr(import_module(module), name)()
        # No more is handed out than runs, so that what was handed out and did not return is what was lost.
        one_by_one: dict[str, Any] = {"pre_dispatch": "n_jobs", "batch_size": 1}
        with parallel_config(self.backend, n_jobs=self.jobs, **self.options):
            try:
                return Parallel(return_as="generator_unordered", **one_by_one)
            except ValueError:  # such an engine, ray among them, says nothing before all is done
                return Parallel(**one_by_one)


def _noting(
    handed_out: list[int], function: Callable[[Job], object], jobs: Sequence[Job], waiting: Sequence[int]
) -> Iterator[Any]:
    for number in waiting:
        handed_out.append(number)
        yield delayed(_call)(function, jobs[number], number)


def _call(function: Callable[[Job], object], job: Job, number: int) -> int:
    """Do one job in a process of its own or in one that has done others before."""
    function(job)
    # Alive until the next job has taken over what they share, such as a loaded backbone.
    _last[:] = [function]
    return number
