from typing import ClassVar

from anomalib_zsad.models.wmoe_clip import WMoEClip
from tests.contract import MethodContract


class TestWMoEClip(MethodContract):
    model_class = WMoEClip
    others: ClassVar = {"sigma": 2.0, "inference_sampling": "fixed", "seed": 4, "cls_scale": "unit", "top_k": 1}
