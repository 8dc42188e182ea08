from anomalib_zsad.models import AFClip
from tests.contract import MethodContract


class TestAFClip(MethodContract):
    model_class = AFClip
