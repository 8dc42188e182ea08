"""One small CLIP that stays loaded while its tests run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anomalib_zsad.clip.backbone import FrozenClip


@pytest.fixture(scope="package", autouse=True)
def loaded(small_clip: Path) -> Iterator[FrozenClip]:
    yield FrozenClip.load(pretrained=small_clip, image_size=56)
