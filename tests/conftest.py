"""Generated datasets that several tests read, and the settings of all tests; none may change them."""

import gc
import os
from pathlib import Path

# Threads of several workers of pytest-xdist that share the cores wait for one another, and take several times as long.
if os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1":
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Else OpenVINO reports every conversion to its makers, each event from a fork of the process: seconds a conversion.
os.environ.setdefault("CI", "true")

# Else glibc gives large tensors back to the system after each operation, and page faults are a tenth of all time. It
# reads this when a process starts: workers and commands.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))
os.environ.setdefault("MALLOC_TOP_PAD_", str(2**26))

import pytest
from hypothesis import settings

from tests.support.small_clip import SHALLOW, write_small_clip
from tests.support.trees import magnetic_tile_tree, mvtec_tree, visa_tree

# On a busy machine any example may take longer than hypothesis expects.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

gc.disable()  # until all tests are collected: imports leave no garbage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that all workers end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later search for garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def mvtec_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mvtec_tree(tmp_path_factory.mktemp("mvtec"))


@pytest.fixture(scope="session")
def visa_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return visa_tree(tmp_path_factory.mktemp("visa"))


@pytest.fixture(scope="session")
def magnetic_tile_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return magnetic_tile_tree(tmp_path_factory.mktemp("magnetic_tile"))


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the weights of a small CLIP."""
    return write_small_clip(tmp_path_factory.mktemp("clip") / "clip.pt")


@pytest.fixture(scope="session")
def shallow_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the weights of a CLIP whose vision tower has two blocks, to export."""
    return write_small_clip(tmp_path_factory.mktemp("clip") / "shallow.pt", architecture=SHALLOW)


@pytest.fixture(scope="session")
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with other weights of the same architecture."""
    return write_small_clip(tmp_path_factory.mktemp("clip") / "other.pt", seed=1)


@pytest.fixture(scope="session")
def timm_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with the weights of a small CLIP over each kind of vision tower of timm, by its name in open_clip."""
    from safetensors.torch import save_file

    from tests.support.small_towers import TIMM, small_state

    files = {name: tmp_path_factory.mktemp("clip") / f"{name}.safetensors" for name in TIMM}
    for name, file in files.items():
        save_file(small_state(name), file)
    return files
