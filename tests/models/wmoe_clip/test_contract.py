from anomalib_zsad.models.wmoe_clip import WMoEClip
from tests.contract import MethodContract


class TestWMoEClip(MethodContract):
    model_class = WMoEClip
