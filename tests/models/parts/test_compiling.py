"""Compiled models: whole graphs with the scores, losses and gradients of the model as it is written."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn  # noqa: F401

from anomalib_zsad.models import ACDClip, AFClip, AnomalyClip, ClipZeroShot, KAnoClip, WMoEClip
from anomalib_zsad.models.parts import compiling
from anomalib_zsad.models.parts.compiling import compile_in_place
from tests.models.kano_clip.building import SMALL
from tests.support.contract import batch, images
from tests.support.small_clip import SHALLOW, write_small_clip

METHODS: dict[type, dict[str, Any]] = {
    AFClip: {"feature_layers": [1, 2], "scales": [1, 3]},
    ACDClip: {"n_groups": 2},
    WMoEClip: {"feature_layers": [1, 2]},
    KAnoClip: {**SMALL, "feature_layers": [1, 2]},
    AnomalyClip: {"feature_layers": [1, 2]},
    ClipZeroShot: {},
}


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    return write_small_clip(tmp_path_factory.mktemp("clip") / "shallow.pt", architecture=SHALLOW)


@torch.inference_mode()
def scores_of(model, count):
    found = model.eval().model(images(count))
    return found.pred_score, found.anomaly_map


def step_of(model):
    model.zero_grad()
    torch.manual_seed(0)
    terms = model.train().loss_terms(batch())
    terms["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in terms.items()}, gradients


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_whole_graphs_with_the_same_numbers(method, shallow, monkeypatch):
    model = method(pretrained=shallow, image_size=56, **METHODS[method])
    names = list(model.state_dict())
    expected = [scores_of(model, count) for count in (3, 2)]
    step = None if method is ClipZeroShot else step_of(model)
    made = Counter()
    monkeypatch.setattr(compiling, "compiled", lambda *given, **named: _counting(made, *given, **named))

    compile_in_place(model, backend="eager")

    torch.testing.assert_close([scores_of(model, count) for count in (3, 2)], expected, atol=1e-5, rtol=0)
    assert max(made.values()) == 1, "another size of the batch was compiled anew"
    assert {"Encoder._read", f"{type(model.model).__name__}.compare"} <= made.keys()
    if step is not None:
        torch.testing.assert_close(step_of(model), step, atol=1e-5, rtol=1e-4)
        assert f"{type(model.loss).__name__}.forward" in made
    assert list(model.state_dict()) == names


def _counting(made, method, *given, backend="eager", **named):
    """Compile with a backend that counts the graphs of each method."""

    def count(graph, _):
        made[method.__qualname__] += 1
        return graph.forward

    *rest, _ = given
    return _compiled(method, *rest, count, **named)


_compiled = compiling.compiled
