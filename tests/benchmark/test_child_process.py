import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from anomalib_zsad.benchmark.child_process import PYTHON, run_command


def run(code, folder, needed=__file__, **more):
    return run_command([PYTHON, "-c", code], str(folder), str(needed), **more)


def test_a_command_runs_in_its_folder_with_the_interpreter_of_its_starter(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os, sys; print(os.getcwd(), sys.executable, os.environ.get('OMP_NUM_THREADS'))"
    ended = run(code, tmp_path, threads=3)
    assert (ended.status, ended.killed) == (0, False)
    assert ended.output.split() == [str(tmp_path), sys.executable, "3"]


@pytest.mark.parametrize(
    ("code", "killed", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", True, "killed on .* by SIGKILL"),
        ("raise SystemExit(143)", True, "killed on .* by SIGTERM"),
        (
            "print('x' * 9000); raise ValueError('no weights')",
            False,
            "ended on .* with status 1: ValueError: no weights",
        ),
        ("raise SystemExit(3)", False, "with status 3: it said nothing"),
    ],
)
def test_the_end_of_a_command_is_said_in_one_line(tmp_path, code, killed, said):
    ended = run(code, tmp_path)
    assert ended.killed is killed
    assert len(ended.output) <= 4000
    assert re.match(f".*{said}", ended.reason)


def test_a_machine_without_the_folder_is_said(tmp_path):
    ended = run("", tmp_path / "gone")
    assert (ended.status, ended.killed) == (2, False)
    assert f"No such file or directory: '{tmp_path / 'gone'}'" in ended.reason


SLEEPS = """
from anomalib_zsad.benchmark.child_process import end_with_parent
import os, pathlib, time
end_with_parent()
pathlib.Path({pid!r}).write_text(str(os.getpid()))
time.sleep(60)
"""


def awaited(path: Path, seconds: float = 20) -> int:
    """The number that a process writes to a file."""
    deadline = time.monotonic() + seconds
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(path.read_text())


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_command_ends_when_nobody_waits_for_it(tmp_path):
    needed, pid = tmp_path / "needed", tmp_path / "pid"
    needed.touch()
    ended = []
    waiting = Thread(target=lambda: ended.append(run(SLEEPS.format(pid=str(pid)), tmp_path, needed)))
    waiting.start()
    number = awaited(pid)
    needed.unlink()
    waiting.join(10)
    assert [each.status for each in ended] == [-signal.SIGTERM]
    assert is_gone(number)


def test_a_command_ends_with_a_parent_that_was_killed(tmp_path):
    code = f"""
from anomalib_zsad.benchmark.child_process import PYTHON, run_command
run_command([PYTHON, "-c", {SLEEPS.format(pid=str(tmp_path / "pid"))!r}], {str(tmp_path)!r}, {str(tmp_path)!r})
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    number = awaited(tmp_path / "pid")
    parent.kill()
    parent.wait()
    assert is_gone(number)
