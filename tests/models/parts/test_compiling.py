"""Compiled models: whole graphs with the scores, losses and gradients of the model as it is written."""

from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch._inductor.config
from anomalib.data import InferenceBatch
from anomalib.data.utils.tiler import Tiler

from anomalib_zsad.data import MVTec, VisA
from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.models import ACDClip, AFClip, AnomalyClip, ClipZeroShot, KAnoClip, WMoEClip
from anomalib_zsad.models.af_clip.torch_model import Logits
from anomalib_zsad.models.clip_zero_shot.torch_model import ClipZeroShotModel
from anomalib_zsad.models.parts import compiling
from anomalib_zsad.models.parts.compiling import Compilable, compile_in_place
from tests.models.kano_clip.building import SMALL
from tests.support.contract import batch, engine_in, images, save_checkpoint
from tests.support.small_clip import ARCHITECTURE, write_small_clip

ONE_BLOCK = {**ARCHITECTURE, "vision_cfg": {**ARCHITECTURE["vision_cfg"], "layers": 1}}
"""Tracing takes time by the operation."""
METHODS: dict[type, dict[str, Any]] = {
    AFClip: {"feature_layers": [1], "scales": [1, 3]},
    ACDClip: {"n_groups": 1},
    WMoEClip: {"feature_layers": [1]},
    KAnoClip: {**SMALL, "feature_layers": [1], "choices": {**SMALL["choices"], "vv_start_layer": 1}},
    AnomalyClip: {"feature_layers": [1], "choices": {"vv_start_layer": 1}},
    ClipZeroShot: {},
}


@pytest.fixture(scope="module")
def one_block(tmp_path_factory):
    return write_small_clip(tmp_path_factory.mktemp("clip") / "one_block.pt", architecture=ONE_BLOCK)


@pytest.fixture
def made(monkeypatch):
    """How many graphs were made of each method."""
    counts, compiled = Counter(), compiling.compiled

    def count(method, module, mode, backend, dynamic):
        def counting(graph, _):
            counts[method.__qualname__] += 1
            return graph.forward

        return compiled(method, module, mode, counting, dynamic)

    monkeypatch.setattr(compiling, "compiled", count)
    return counts


def build(method, clip, **arguments):
    return method(pretrained=clip, image_size=56, **METHODS[method], **arguments)


@torch.no_grad()
def scores_of(model, count):
    found = model.eval().predict_batch(first(count))
    return found.pred_score, found.anomaly_map


def step_of(model):
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return {}, {}
    model.zero_grad()
    torch.manual_seed(0)  # of the noise in WMoE-CLIP's training
    terms = model.train().loss_terms(first(1))
    terms["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in terms.items()}, gradients


def first(count):
    """Images of the contract's batch, the anomalous ones first."""
    whole = batch()
    rows = [2, 1, 0][:count]
    return CategoryBatch(
        image=whole.image[rows], gt_label=whole.gt_label[rows], gt_mask=whole.gt_mask[rows], category=["candle"] * count
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_whole_graphs_with_the_same_numbers(method, one_block, made):
    model = build(method, one_block)
    names, expected = list(model.state_dict()), (step_of(model), scores_of(model, 3), scores_of(model, 2))

    compile_in_place(model)

    torch.testing.assert_close((step_of(model), scores_of(model, 3)), expected[:2], atol=1e-5, rtol=1e-4)
    before = made.total()
    torch.testing.assert_close(scores_of(model, 2), expected[2], atol=1e-5, rtol=1e-4)
    assert made.total() == before  # a last, smaller batch compiles nothing anew
    kind = type(model.model).__name__
    assert {"Encoder._read", f"{kind}.compare", f"{kind}.score"} <= made.keys()
    assert (f"{type(getattr(model, 'loss', None)).__name__}.forward" in made) == (method is not ClipZeroShot)
    assert list(model.state_dict()) == names


@torch.no_grad()
def test_tiles_the_memory_and_cached_features_pass_the_same_graphs(one_block, made):
    model = build(AFClip, one_block).eval()
    whole = images(1, (56, 84))
    model.model.remember(images(2).split(1))
    model.model.tiler, model.model.tile_batch = Tiler((56, 56), (28, 28)), 1
    expected = model.model(whole)
    compile_in_place(model)
    found = model.model(whole)
    torch.testing.assert_close(found.anomaly_map, expected.anomaly_map, atol=1e-5, rtol=0)
    assert set(made.values()) == {1}
    model.model.encoder.feature_cache = lambda pictures, _: [torch.zeros(len(pictures), 17, 64)]
    model.model(images(1))
    assert set(made.values()) == {1}


@torch.no_grad()
def test_graphs_that_hold_weights_as_constants_go_when_these_change(one_block, made):
    model = build(AFClip, one_block)
    compile_in_place(model)
    with torch._inductor.config.patch(freezing=True):
        for _ in range(2):
            scores_of(model, 1)
        assert set(made.values()) == {1}
        model.model.adaptor.to_out.weight.mul_(2)  # as an optimiser or a checkpoint
        scores_of(model, 1)
    assert made["Encoder._read"] == 1
    assert made["AFClipModel.compare"] == 2


def test_scores_outlive_the_memory_that_cuda_graphs_write_into(one_block, monkeypatch):
    model, begun = build(ClipZeroShot, one_block, compile="reduce-overhead").model, []
    memory = InferenceBatch(pred_score=torch.rand(1), anomaly_map=torch.rand(1, 1, 56, 56))
    monkeypatch.setattr(ClipZeroShotModel, "logits", lambda *_: [])
    monkeypatch.setattr(ClipZeroShotModel, "score", lambda *_: memory)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    found = model(images(1))
    expected = memory.pred_score.clone()
    memory.pred_score.zero_()
    assert found.pred_score == expected > 0
    assert begun == [1]


def test_the_engine_trains_tests_and_predicts(one_block, visa_root, mvtec_root, tmp_path, made):
    sizes = {"num_workers": 0, "train_batch_size": 2, "eval_batch_size": 4}
    target = MVTec(mvtec_root, ["bottle", "grid"], **sizes)
    data = VisA(visa_root, ["candle"], target=target, val_ratio=0.3, **sizes)
    found, checkpoint = [], None
    for compiles in (True, False):
        model = build(AFClip, one_block, epochs=1, temperature=2.0, compile=compiles)
        model.visualizer, engine = None, engine_in(tmp_path / str(compiles))
        (metrics,) = engine.train(model, datamodule=data)
        checkpoint = checkpoint or engine.best_model_path  # written with graphs, read with and without
        batches = engine.predict(model, datamodule=data, ckpt_path=checkpoint)
        found.append((metrics, torch.cat([each.pred_score for each in batches])))
        if compiles:
            assert model.model.graphs is not None
            assert {"Encoder._read", "AFClipModel.compare", "AFClipModel.score", "AFClipLoss.forward"} == made.keys()
            made.clear()
    assert not made
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_a_copy_compiles_anew_and_an_exported_one_not_at_all(one_block, tmp_path):
    model = build(AFClip, one_block, compile=True)
    model.trained_on = ["some/thing"]
    copy = deepcopy(model)
    assert copy.model.graphs is not model.model.graphs
    assert copy.model.graphs.mode == "default"
    exported = torch.load(model.to_torch(tmp_path), weights_only=False)["model"]
    assert all(part.graphs is None for part in exported.modules() if isinstance(part, Compilable))
    assert model.model.graphs is not None


def test_a_checkpoint_does_not_bring_it_to_another_machine(one_block, tmp_path):
    model = build(AFClip, one_block, compile="max-autotune-no-cudagraphs")
    assert model.model.graphs.mode == "max-autotune-no-cudagraphs"
    assert "compile" not in model.record()["settings"]
    file = save_checkpoint(model, tmp_path / "model.ckpt")
    assert AFClip.load_from_checkpoint(file, pretrained=str(one_block)).model.graphs is None
    assert AFClip.load_from_checkpoint(file, pretrained=str(one_block), compile=True).model.graphs.mode == "default"


@pytest.mark.parametrize("wrong", ["fast", 1, None])
def test_another_mode_is_refused(one_block, wrong):
    with pytest.raises(ValueError, match=r"compile must be True or False or one of default, reduce-overhead, .*, got"):
        build(AFClip, one_block, compile=wrong)


def test_graphs_may_be_traced_from_outside_too(one_block):
    model = build(ClipZeroShot, one_block).model.eval()
    expected = model(images(), ["nut", "bolt", "nut"])
    found = torch.compile(model, fullgraph=True, backend="eager")(images(), ["nut", "bolt", "nut"])
    torch.testing.assert_close(found.anomaly_map, expected.anomaly_map, atol=1e-5, rtol=0)


def test_inductor_compiles_it(one_block):
    model = build(AFClip, one_block, compile=True).model
    logits = Logits(torch.randn(1, 2), torch.randn(1, 4, 4, 2), [])
    found = model.score(logits, (56, 56))
    expected = build(AFClip, one_block).model.score(logits, (56, 56))
    torch.testing.assert_close(found.pred_score, expected.pred_score, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.anomaly_map, expected.anomaly_map, atol=1e-5, rtol=0)


def test_a_machine_without_a_compiler_is_told_so(one_block):
    model = build(AFClip, one_block, compile=True).model
    logits = Logits(torch.randn(1, 2), torch.randn(1, 4, 4, 2), [])
    missing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True})
    with missing, pytest.raises(RuntimeError, match=r"compile: .* at AFClipModel\.score .*needs a C\+\+ compiler"):
        model.score(logits, (70, 70))
