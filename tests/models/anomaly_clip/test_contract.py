from typing import ClassVar

from anomalib_zsad.models import AnomalyClip
from tests.support.contract import MethodContract
from tests.support.initial_values import normal


class TestAnomalyClip(MethodContract):
    model_class = AnomalyClip
    others: ClassVar = {
        "feature_layers": [2, 4],
        "states": ("fine.", "broken."),
        "variant": "paper",
        "choices": {"vv_start_layer": 2, "temperature": 0.2},
    }
    initial_values: ClassVar = {r"prompts\.(vectors|deep\.tokens)": normal(0.02)}
