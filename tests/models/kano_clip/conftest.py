"""One small CLIP that stays loaded while its tests run."""

from pathlib import Path

import pytest

from anomalib_zsad.clip.backbone import FrozenClip


@pytest.fixture(scope="package", autouse=True)
def loaded(small_clip: Path) -> FrozenClip:
    return FrozenClip.load(pretrained=small_clip, image_size=56)
