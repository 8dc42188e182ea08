"""Generated datasets that several tests read; none may change them."""

from pathlib import Path

import pytest

from tests.trees import magnetic_tile_tree, mvtec_tree, visa_tree


@pytest.fixture(scope="session")
def mvtec_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mvtec_tree(tmp_path_factory.mktemp("mvtec"))


@pytest.fixture(scope="session")
def visa_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return visa_tree(tmp_path_factory.mktemp("visa"))


@pytest.fixture(scope="session")
def magnetic_tile_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return magnetic_tile_tree(tmp_path_factory.mktemp("magnetic_tile"))
