"""Schedules cells: after those whose results they use, each once at a time, and once more if it was killed."""

import logging
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from anomalib_zsad.benchmark.child_process import TAKEN, Ended
from anomalib_zsad.benchmark.grid import Benchmark, Cell
from anomalib_zsad.benchmark.launch import Job
from anomalib_zsad.benchmark.store import Store

logger = logging.getLogger(__name__)

LATENCY = 60.0
"""Seconds that a file which another machine has written may take to appear on a network file system."""

_POLL = 0.1
_LOOK = 2.0
_TRIES = 2


@dataclass
class Task:
    """A cell without a result.

    Args:
        cell: The cell.
        fingerprint: Of its settings.
        before: Its record of an earlier run, which does not count.
        after: Cells that must have come to an end before, well or not.
    """

    cell: Cell
    fingerprint: str
    before: dict[str, Any]
    after: list["Task"] = field(default_factory=list)
    tries: int = 0
    ended: bool = False
    seen_by: float | None = None
    """When its record must have appeared."""


def plan(benchmark: Benchmark, store: Store) -> list[Task]:
    """List the cells without a result: one of each training before the others, members before their ensembles."""
    cells = [(cell, benchmark.fingerprint(cell)) for cell in benchmark.cells()]
    finished = {cell: store.is_finished(cell, mark) for cell, mark in cells}
    tasks = {cell: Task(cell, mark, store.record(cell, mark)) for cell, mark in cells if not finished[cell]}
    trained = {benchmark.training_of(cell) for cell in finished if finished[cell]}
    first: dict[str, Task] = {}
    for cell, task in tasks.items():
        training = benchmark.training_of(cell)
        if training is not None and training not in trained and first.setdefault(training, task) is not task:
            task.after.append(first[training])
        members = benchmark.models[cell.model].members
        task.after += [other for other in tasks.values() if other.cell.model in members and _together(other.cell, cell)]
    return list(tasks.values())


def _together(one: Cell, other: Cell) -> bool:
    return (one.target, one.training_seed) == (other.target, other.training_seed)


class Schedule:
    """Runs cells until each has a result or a reason why it has none.

    A cell is finished if its record exists, also if another benchmark on the same folder wrote it.

    Args:
        tasks: The result of `plan`.
        store: Where records are read.
        submit: Hands a cell out; its job's result is an `Ended`.
        limit: How many are handed out at a time.
    """

    def __init__(self, tasks: Sequence[Task], store: Store, submit: Callable[[Task], Job], limit: float) -> None:
        self._waiting, self._store, self._submit, self._limit = list(tasks), store, submit, limit
        self._running: list[tuple[Job, Task]] = []

    def settled(self) -> Generator[Task, None, None]:
        """Run all; submitted cells are cancelled when the iterator is closed."""
        look = time.monotonic()
        try:
            while self._waiting or self._running:
                ended = self._collect()
                if ended or time.monotonic() >= look:
                    ended += self._hand_out()
                    look = time.monotonic() + _LOOK
                yield from ended
                if not ended:
                    time.sleep(_POLL)
        finally:
            for job, _ in self._running:
                job.cancel()

    def _hand_out(self) -> list[Task]:
        """Submit what may run; return the cells that other processes have run meanwhile."""
        settled = []
        for task in list(self._waiting):
            if len(self._running) >= self._limit:
                break
            if not all(other.ended for other in task.after):
                continue
            if self._is_settled(task):
                self._waiting.remove(task)
                task.ended = True
                settled.append(task)
            elif not self._store.is_taken(task.cell):
                self._waiting.remove(task)
                self._running.append((self._submit(task), task))
        return settled

    def _collect(self) -> list[Task]:
        """Collect what has ended; return the cells that have a record."""
        running, self._running = self._running, []
        settled = []
        for job, task in running:
            ended = _ended(job) if job.done() else None
            if ended is None or self._may_still_appear(ended, task):
                self._running.append((job, task))
                continue
            if ended.killed or (ended.status not in {0, TAKEN} and ended.output):
                logger.warning("Cell %s %s\n%s", task.cell.name, ended.reason, ended.output)
            if self._is_settled(task) or not self._goes_again(ended, task):
                task.ended = True
                settled.append(task)
        return settled

    def _may_still_appear(self, ended: Ended, task: Task) -> bool:
        if ended.status != 0 or self._is_settled(task):
            return False
        task.seen_by = task.seen_by or time.monotonic() + LATENCY
        return time.monotonic() < task.seen_by

    def _goes_again(self, ended: Ended, task: Task) -> bool:
        if ended.status == TAKEN:
            self._waiting.append(task)
            return True
        task.tries += 1
        if ended.killed and task.tries < _TRIES:
            self._waiting.insert(0, task)
            return True
        self._store.fail(task.cell, task.fingerprint, self._reason(ended))
        return False

    def _reason(self, ended: Ended) -> str:
        if ended.status == 0:
            return (
                f"ended well on {ended.host}, but left no result in {self._store.folder}: is it the same folder there?"
            )
        return f"{ended.reason}, {_TRIES} times" if ended.killed else ended.reason

    def _is_settled(self, task: Task) -> bool:
        record = self._store.record(task.cell, task.fingerprint)
        return "rows" in record or ("failed" in record and record != task.before)


def _ended(job: Job) -> Ended:
    try:
        return job.result()
    except Exception as error:  # an engine's own for a worker that is gone
        text = " ".join(str(error).split())
        return Ended(-signal.SIGKILL, "", f"a worker that is gone ({type(error).__name__}: {text})")
