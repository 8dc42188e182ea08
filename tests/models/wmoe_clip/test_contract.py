import math
from typing import ClassVar

from anomalib_zsad.models.wmoe_clip import WMoEClip
from tests.support.contract import MethodContract
from tests.support.initial_values import clips_projection, constant, normal, torchs_own, uniform


class TestWMoEClip(MethodContract):
    model_class = WMoEClip
    others: ClassVar = {
        "sigma": 2.0,
        "seed": 4,
        "top_k": 1,
        "choices": {"inference_sampling": "fixed", "cls_scale": "unit"},
    }
    initial_values: ClassVar = {
        r"sampler\.(trunk\.0|mean|log_variance|decoder\.[02])\.(weight|bias)": torchs_own,
        r"prompts\.vectors": normal(0.02),
        r"projections\.linears\.\d\.weight": clips_projection,
        r"projections\.linears\.\d\.bias": constant(0),
        r"attention\.0\.gate\.(whole|inner|outer)\.(weight|bias)": torchs_own,
        r"attention\.0\.to_(q|k|v)\.weight": uniform(math.sqrt(6 / (64 + 64))),  # Xavier
        r"experts\.context\.linears\.\d\.(weight|bias)": torchs_own,
        r"experts\.router\.weight": normal(0.02),
        r"experts\.router\.bias": constant(0),
        r"experts\.inner(_bias)?": uniform(64**-0.5),  # as torch's linear maps, expert by expert
        r"experts\.outer(_bias)?": uniform(192**-0.5),
    }
