"""Where anomalib writes results: `latest` is a link to the newest version, also after a test before any training."""

import os
import re
from functools import wraps
from pathlib import Path

from anomalib.engine import engine

_create = engine.create_versioned_dir


@wraps(_create)
def _create_beside_a_folder(root_dir: str | Path) -> Path:
    latest = Path(root_dir, "latest")
    if os.name != "nt" and latest.is_dir() and not latest.is_symlink():
        versions = [int(path.name[1:]) for path in latest.parent.iterdir() if re.fullmatch(r"v\d+", path.name)]
        latest.rename(latest.with_name(f"v{max(versions, default=-1) + 1}"))
    return _create(root_dir)


def version_first_tests() -> None:
    """Let a training follow a test that had no version to write to: what it wrote as `latest` becomes a version."""
    engine.create_versioned_dir = _create_beside_a_folder
