from typing import ClassVar

from anomalib_zsad.models import AFClip
from tests.support.contract import MethodContract
from tests.support.initial_values import NORMS, normal, torchs_own


class TestAFClip(MethodContract):
    model_class = AFClip
    others: ClassVar = {"scales": (1,), "temperature": 0.2, "blur_sigma": 1.0, "states": ("fine.", "broken.")}
    initial_values: ClassVar = {
        **NORMS,
        r"adaptor\.to_(q|k|v)\.weight": torchs_own,
        r"adaptor\.to_out\.(weight|bias)": torchs_own,
        r"prompts\.vectors": normal(0.01),
    }


def test_the_learning_rate_is_the_papers_but_over_the_small_clip_and_where_it_is_given(small_clip):
    assert AFClip(pretrained=small_clip, image_size=56).configure_optimizers().defaults["lr"] == 1e-4
    assert AFClip(backbone="zsad-tiny").configure_optimizers().defaults["lr"] == 1e-3
    assert AFClip(backbone="zsad-tiny", lr=2e-4).configure_optimizers().defaults["lr"] == 2e-4
