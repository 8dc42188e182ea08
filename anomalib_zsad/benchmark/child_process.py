"""A command in a process of its own, wherever an engine starts it; imports nothing that a worker would have to load."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TAKEN = 75
"""Status of a cell that another process runs at this time (EX_TEMPFAIL)."""

PYTHON = "{python}"
"""Placeholder in a command for the interpreter of the process that starts it."""

_POLL = 0.5
_PATIENCE = 10.0
_SHOWN = 4000


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        status: Its exit status; negative where a signal killed it.
        output: The last of what it printed.
        host: The machine it ran on.
    """

    status: int
    output: str
    host: str

    @property
    def killed(self) -> bool:
        """Whether a signal ended it; a shell adds 128 to the signal's number."""
        return self.status < 0 or self.status > 128

    @property
    def reason(self) -> str:
        """The reason in one line."""
        if self.killed:
            number = -self.status if self.status < 0 else self.status - 128
            return f"killed on {self.host} by {_signal_name(number)} (out of memory, or a time limit?)"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return f"ended on {self.host} with status {self.status}: {lines[-1] if lines else 'it said nothing'}"


def run_command(words: Sequence[str], folder: str, needed: str, threads: int | None = None) -> Ended:
    """Run a command until it ends, or until `needed` is gone.

    The command's standard input stays open as long as this process lives (`end_with_parent`).

    Args:
        words: A program and its arguments; `PYTHON` among them is this process's interpreter.
        folder: Where it runs, the same path on every machine.
        needed: A file that exists as long as a process waits for the command.
        threads: Processor threads that it may use, unless OMP_NUM_THREADS says another number. None: all.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [word if word != PYTHON else sys.executable for word in words],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for the waiting process; `needed` ends the command
            )
        except OSError as error:
            return Ended(2, f"{type(error).__name__}: {error}", socket.gethostname())
        try:
            status = _wait(process, Path(needed))
        finally:
            _end(process)
        return Ended(status, _tail(output), socket.gethostname())


def end_with_parent() -> None:
    """End this process (SIGTERM) when its standard input is closed: when its parent process ends for any reason."""
    threading.Thread(target=_follow_standard_input, daemon=True).start()


def _follow_standard_input() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock a thread may not hold while the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(128 + signal.SIGTERM)


def _wait(process: subprocess.Popen, needed: Path) -> int:
    while needed.exists():
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL)
    return _end(process)


def _end(process: subprocess.Popen) -> int:
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def _tail(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _SHOWN))
    return output.read().decode(errors="replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
