from typing import ClassVar

from anomalib_zsad.models.kano_clip import KAnoClip
from tests.contract import MethodContract

SMALL: dict = {"bica_dim": 32, "bica_heads": 4, "deform_kernel": 3, "deform_stride": 2, "bottleneck": 16}
"""Sizes for a grid of 4 x 4 patches: with the defaults there would be one sampling point."""


class TestKAnoClip(MethodContract):
    model_class = KAnoClip
    arguments: ClassVar = SMALL
