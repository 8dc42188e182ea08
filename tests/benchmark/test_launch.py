import os
from functools import partial
from pathlib import Path
from time import sleep

import pytest
from joblib import register_parallel_backend
from joblib.parallel import BACKENDS, ThreadingBackend

from anomalib_zsad.benchmark.launch import LOST, Launcher

JOBS = [f"job {number}" for number in range(6)]
DIES = "job 1"


class Threads(ThreadingBackend):
    """An engine that a user has brought along."""

    def __init__(self, greeting="", **more):
        super().__init__(**more)
        self.greeting = greeting


def register_threads():
    register_parallel_backend("threads of mine", Threads)


def note(folder: Path, job: str) -> None:
    with (folder / job).open("a") as file:
        file.write(f"{os.getpid()}\n")


def note_or_die(folder: Path, job: str) -> None:
    note(folder, job)
    if job == DIES:
        os._exit(1)
    sleep(0.2)


def noted(folder: Path) -> dict[str, list[str]]:
    """The processes that did each job."""
    return {path.name: path.read_text().split() for path in folder.iterdir()}


def test_one_job_at_a_time_stays_in_this_process_and_in_order(tmp_path):
    assert list(Launcher().run(partial(note, tmp_path), JOBS)) == [(job, None) for job in JOBS]
    assert noted(tmp_path) == {job: [str(os.getpid())] for job in JOBS}


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])  # the latter says nothing before all is done
def test_every_job_is_done_once_in_another_process(tmp_path, backend):
    done = list(Launcher(2, backend).run(partial(note, tmp_path), JOBS))
    assert sorted(done) == [(job, None) for job in JOBS]
    processes = noted(tmp_path)
    assert sorted(processes) == JOBS
    assert all(len(pids) == 1 and pids != [str(os.getpid())] for pids in processes.values())


def test_jobs_lost_with_a_process_are_told_and_the_rest_goes_on(tmp_path):
    done = list(Launcher(2).run(partial(note_or_die, tmp_path), JOBS))
    assert sorted(job for job, _ in done) == JOBS
    lost = {job for job, reason in done if reason == LOST}
    assert DIES in lost
    assert len(lost) < len(JOBS)
    assert all(len(pids) == 1 for pids in noted(tmp_path).values())  # none is tried twice
    assert set(JOBS) - lost <= set(noted(tmp_path))


def test_an_engine_of_the_user_is_registered_and_has_its_options(tmp_path):
    register = f"{__name__}.register_threads"
    launcher = Launcher(2, "threads of mine", {"greeting": "hello"}, register)
    try:
        done = list(launcher.run(partial(note, tmp_path), JOBS))
        assert launcher._parallel()._backend.greeting == "hello"
    finally:
        BACKENDS.pop("threads of mine", None)
    assert sorted(job for job, _ in done) == JOBS
    assert noted(tmp_path) == {job: [str(os.getpid())] for job in JOBS}


def test_no_jobs_are_no_work():
    assert list(Launcher(2).run(print, [])) == []


def test_fewer_than_one_at_a_time_are_refused():
    with pytest.raises(ValueError, match="expected at least 1 job at a time, got 0"):
        Launcher(0)
