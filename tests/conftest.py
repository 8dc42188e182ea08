"""Generated datasets that several tests read; none may change them."""

import logging
import os
from pathlib import Path

# Threads of several workers of pytest-xdist that share the cores wait for one another, and take several times as long.
if os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1":
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.support.small_clip import write_small_clip
from tests.support.trees import magnetic_tile_tree, mvtec_tree, visa_tree


@pytest.fixture(autouse=True)
def audible_loggers() -> None:
    """Undo what a library that sets logging up in an earlier test has done to the loggers of this package."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("anomalib_zsad."):
            logger = logging.getLogger(name)
            logger.disabled, logger.propagate = False, True
            logger.setLevel(logging.NOTSET)


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
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with other weights of the same architecture."""
    return write_small_clip(tmp_path_factory.mktemp("clip") / "other.pt", seed=1)
