from typing import ClassVar

from anomalib_zsad.models.acd_clip import ACDClip
from tests.contract import MethodContract


class TestACDClip(MethodContract):
    model_class = ACDClip
    arguments: ClassVar = {"n_groups": 2}
    others: ClassVar = {"temperature": 0.2, "domain": "medical", "class_name": "a", "class_names": {"a": "thing"}}


class TestACDClipOfThePaper(MethodContract):
    model_class = ACDClip
    arguments: ClassVar = {"n_groups": 2, "variant": "paper", "gradient_checkpointing": True}
