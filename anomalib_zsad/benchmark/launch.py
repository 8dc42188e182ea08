"""The engines that start commands: a pool of this machine, Dask, Ray, submitit."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict


class Job(Protocol):
    """A submitted call."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Any:
        """Return what the function returned, or raise why it did not."""

    def cancel(self) -> Any:
        """Do not start it if possible."""


class Engine(Protocol):
    """Calls functions, in this process or elsewhere."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Job:
        """Submit a call; function and arguments must be picklable."""


@dataclass
class Launcher:
    """Where the cells of a benchmark run; each is a command in a process of its own.

    Args:
        jobs: How many cells the engine has in hand at a time. None: one on this machine, else all that can run.
        backend: `local`: processes of this machine. `dask`: the workers of a scheduler. `ray`: the nodes of a Ray
            cluster. `submitit`: jobs of SLURM.
        options: Arguments of `distributed.Client` (such as `address`), of `ray.init`, or of submitit's
            `update_parameters` (such as `slurm_partition`, `timeout_min`).
        task: What each cell needs: arguments of Dask's `submit` (`resources`) or of a Ray task (`num_gpus`).
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    jobs: int | None = None
    backend: Literal["local", "dask", "ray", "submitit"] = "local"
    options: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            msg = f"expected at least 1 job at a time, got {self.jobs}"
            raise ValueError(msg)
        for name in ("options", "task"):
            if getattr(self, name) and name in _REFUSED.get(self.backend, ()):
                msg = f"expected no {name} for the backend {self.backend}, got {getattr(self, name)}"
                raise ValueError(msg)

    @property
    def limit(self) -> float:
        """How many cells the engine has in hand at a time."""
        return self.jobs or (1 if self.backend == "local" else float("inf"))

    @contextmanager
    def engine(
        self,
        folder: Path,  # for what the engine itself writes
    ) -> Iterator[Engine]:
        """Connect to the engine.

        Raises:
            ValueError: If the package of the engine is not installed, or it does not take the options.
            OSError: If the engine is not reached.
        """
        connect = {"local": _local, "dask": _dask, "ray": _ray, "submitit": _submitit}[self.backend]
        try:
            engine, close = connect(self, folder)
        except (TypeError, NameError) as error:  # how they refuse an argument
            msg = f"launcher.options: expected those of the backend {self.backend}, got {self.options} ({error})"
            raise ValueError(msg) from error
        try:
            yield engine
        finally:
            close()


_REFUSED = {"local": ("options", "task"), "submitit": ("task",)}

_Connected = tuple[Engine, Callable[[], None]]
"""An engine, and what ends the connection with it."""


def _local(launcher: Launcher, _: Path) -> _Connected:
    pool = ThreadPoolExecutor(launcher.jobs or 1)  # a thread only waits for its command
    return pool, lambda: pool.shutdown(cancel_futures=True)


def _dask(launcher: Launcher, _: Path) -> _Connected:
    client = _package("distributed", "dask").Client(**launcher.options)
    return client.get_executor(pure=False, **launcher.task), client.close


def _ray(launcher: Launcher, _: Path) -> _Connected:
    ray = _package("ray", "ray")
    ray.init(**launcher.options)
    return _Ray(ray, {"max_retries": 0, **launcher.task}), ray.shutdown


def _submitit(launcher: Launcher, folder: Path) -> _Connected:
    executor = _package("submitit", "submitit").AutoExecutor(folder / "submitit")
    executor.update_parameters(**launcher.options)
    return executor, lambda: None


def _package(name: str, backend: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        msg = f"the backend {backend} needs the package {name}: pip install {name} ({error})"
        raise ValueError(msg) from error


class _Ray:
    """Ray's tasks as futures."""

    def __init__(self, ray: Any, task: dict[str, Any]) -> None:
        self._ray, self._task = ray, task

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        return self._ray.remote(**self._task)(function).remote(*arguments).future()
