from typing import ClassVar

from anomalib_zsad.models.kano_clip import KAnoClip
from tests.contract import MethodContract
from tests.models.kano_clip.builders import SMALL


class TestKAnoClip(MethodContract):
    model_class = KAnoClip
    arguments: ClassVar = SMALL
    others: ClassVar = {"sigma": 1.0, "map_norm": "minmax", "class_name": "a", "class_names": {"a": "thing"}}
