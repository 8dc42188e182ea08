"""Whatever an argument is given: finite scores after a step of training, or one message before anything is built."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomalib_zsad import ACDClip, AFClip, AnomalyClip, KAnoClip, WMoEClip
from tests.models.kano_clip.building import SMALL
from tests.support.argument_values import WRONG, arguments_of, come_to, value_for

FITTING: dict[type, dict[str, Any]] = {
    AFClip: {},
    AnomalyClip: {},
    ACDClip: {"n_groups": 2},
    WMoEClip: {},
    KAnoClip: SMALL,
}


@pytest.mark.parametrize("kind", FITTING)
@settings(max_examples=8, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_two_outcomes(kind: type, small_clip: Path, data: st.DataObject) -> None:
    hints = arguments_of(kind.__init__)
    names = data.draw(st.lists(st.sampled_from(sorted(hints)), min_size=1, max_size=2, unique=True))
    changed = {name: data.draw(st.one_of(value_for(hints[name]), st.sampled_from(WRONG)), name) for name in names}

    def build(**arguments: Any) -> Any:
        choices, fitting = arguments.get("choices"), FITTING[kind].get("choices", {})
        both = {"choices": {**fitting, **choices}} if isinstance(choices, dict) else {}
        return kind(pretrained=small_clip, **{**FITTING[kind], **arguments, **both})

    come_to(build, changed)
