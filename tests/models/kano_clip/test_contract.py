from typing import ClassVar

from anomalib_zsad.models.kano_clip import KAnoClip
from tests.models.kano_clip.building import SMALL
from tests.support.contract import MethodContract
from tests.support.initial_values import constant, normal, torchs_own


class TestKAnoClip(MethodContract):
    model_class = KAnoClip
    arguments: ClassVar = SMALL
    others: ClassVar = {
        "sigma": 1.0,
        "choices": {**SMALL["choices"], "map_norm": "minmax"},
        "class_name": "a",
        "class_names": {"a": "thing"},
    }
    initial_values: ClassVar = {
        r"prompts\.vectors": normal(0.02),
        r"(.*\.)?(\w+_)?norm\.weight": constant(1),
        r"(.*\.)?(\w+_)?norm\.bias": constant(0),
        r"bicmci\.stages\.\d\.\w+_scale": constant(0.1),
        r"bicmci\.stages\.\d\.(text_self|\w+_to_\w+)\.to_(q|k|v|out)\.(weight|bias)": torchs_own,
        r"bicmci\.stages\.\d\.deformable\.(down|to_q|to_k|to_v|offset_conv|up)\.(weight|bias)": torchs_own,
        r"bicmci\.stages\.\d\.deformable\.offset_out\.weight": constant(0),
        r"conv_adapter\.(depthwise|down|up)\.weight": torchs_own,
    }
