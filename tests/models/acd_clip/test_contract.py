import math
from typing import ClassVar

from anomalib_zsad.models.acd_clip import ACDClip
from tests.support.contract import MethodContract
from tests.support.initial_values import NORMS, constant, kaiming, torchs_own, uniform

RELEASED = {
    **NORMS,
    r"(vision|text)\.mixed\.\d\.weight": constant(0.2),
    r"(vision|text)\.mixed\.\d\.adapter\.(branches\.\d\.)?down": uniform(math.sqrt(6 / 16)),  # over the rank
    r"(vision|text)\.mixed\.\d\.adapter\.(branches\.\d\.)?up": constant(0),
    r"vision\.mixed\.\d\.adapter\.branches\.\d\.conv_(down|up)\.weight": kaiming,
    r"vision\.mixed\.\d\.adapter\.fuse\.weight": torchs_own,
    r"vision\.(segmentation|detection|gates)\.\d\.(inner|outer)\.(weight|bias)": torchs_own,
}


class TestACDClip(MethodContract):
    model_class = ACDClip
    initial_values = RELEASED
    arguments: ClassVar = {"n_groups": 2}
    needed = arguments
    others: ClassVar = {"temperature": 0.2, "domain": "medical", "class_name": "a", "class_names": {"a": "thing"}}


class TestACDClipOfThePaper(MethodContract):
    model_class = ACDClip
    initial_values = RELEASED
    arguments: ClassVar = {"n_groups": 2, "variant": "paper", "gradient_checkpointing": True}
    needed: ClassVar = {"n_groups": 2}
