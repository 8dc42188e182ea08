"""The vision tower outside of PyTorch: the same scores, and what a machine without the runtime sees of it."""

import pickle
from copy import deepcopy

import pytest
import torch

from anomalib_zsad.models import ACDClip, AFClip, Ensemble, KAnoClip
from anomalib_zsad.models.parts import installed
from anomalib_zsad.models.parts.encoder import encoders_in, run_towers
from anomalib_zsad.models.parts.export import _deployable
from anomalib_zsad.models.parts.feature_cache import FeatureCache
from tests.support.contract import batch, engine_in, images, save_checkpoint
from tests.support.small_clip import IMAGE_SIZE

RUNTIMES = ("openvino", "onnx")
FEW = {"feature_layers": [1, 2], "scales": [1]}


@pytest.fixture(scope="module", params=RUNTIMES)
def af_clip(request, shallow_clip):
    """AF-CLIP over a tower in a runtime, whose graph all tests share."""
    for package in ("onnx", "onnxscript", "onnxruntime") if request.param == "onnx" else ("openvino",):
        pytest.importorskip(package)
    model = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, runtime=request.param, **FEW).eval()
    model.trained_on = ["VisA/candle"]
    return model


@torch.inference_mode(False)
def in_torch(model):
    """The same model with PyTorch's tower."""
    copy = deepcopy(model)
    for encoder in encoders_in(copy):
        encoder.tower = None
    return copy


def assert_same_scores(model, pictures):
    expected = in_torch(model).model(pictures)
    for count in (len(pictures), 1):
        found = model.model(pictures[:count])
        for name in ("pred_score", "anomaly_map"):
            expect = getattr(expected, name)[:count]
            torch.testing.assert_close(getattr(found, name), expect, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_scores_are_those_of_torch_for_any_number_of_images_and_one_graph_serves_all(af_clip, monkeypatch):
    assert_same_scores(af_clip, images())
    with monkeypatch.context() as changed:
        changed.setattr(type(af_clip.model.encoder.tower), "_make", None)
        assert_same_scores(af_clip, images(5))


def test_a_step_of_training_is_that_of_torch(af_clip):
    alike = in_torch(af_clip)
    for model in (af_clip, alike):
        model.loss_terms(batch())["loss"].backward()
    for found, expected in zip(af_clip.model.parameters(), alike.model.parameters(), strict=True):
        assert (found.grad is None) == (expected.grad is None)
        if found.grad is not None:
            torch.testing.assert_close(found.grad, expected.grad, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_references_are_remembered_and_recalled(af_clip):
    alike, empty = in_torch(af_clip), deepcopy(af_clip.model.memory)
    for each in (af_clip, alike):
        each.model.remember(images(4)[2:].split(1))
    found, expected = (each.model(images(4)) for each in (af_clip, alike))
    af_clip.model.memory = empty
    torch.testing.assert_close(found.anomaly_map, expected.anomaly_map, atol=1e-3, rtol=0)


def test_detect_scores_as_torch_does(af_clip):
    pictures = torch.rand(2, 3, 90, 70, generator=torch.Generator().manual_seed(0))
    found, expected = (model.detect(pictures, progress=False) for model in (af_clip, in_torch(af_clip)))
    assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-5)


@torch.no_grad()
def test_images_of_another_size_than_the_models_are_scored_as_in_torch(shallow_clip):
    pytest.importorskip("openvino")
    wide = {"deform_kernel": 3, "deform_stride": 2, "vv_start_layer": 1}
    model = KAnoClip(
        pretrained=shallow_clip, image_size=IMAGE_SIZE, runtime="openvino", feature_layers=[2], choices=wide
    )
    assert_same_scores(model.eval(), images(size=(28, 42)))


def test_what_is_learnt_inside_of_the_tower_is_trained_in_torch_and_then_part_of_the_graph(shallow_clip):
    pytest.importorskip("openvino")
    model = ACDClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, runtime="openvino", n_groups=1).eval()
    inner = list(model.model.vision.mixed.parameters())
    with torch.no_grad():
        before = model.model(images())
    model.loss_terms(batch())["loss"].backward()
    assert any(each.grad is not None and each.grad.abs().max() > 0 for each in inner)
    with torch.no_grad():
        for each in inner:
            each += 0.1
        assert_same_scores(model, images())
        assert not torch.allclose(model.model(images()).anomaly_map, before.anomaly_map, atol=1e-3)


def test_copies_have_no_graph_of_their_own_and_exports_are_made_of_torch(af_clip):
    assert _deployable(af_clip).model.encoder.tower is None
    assert af_clip.model.encoder.tower is not None
    for copy in (deepcopy(af_clip.model.encoder.tower), pickle.loads(pickle.dumps(af_clip.model.encoder.tower))):
        assert copy.runtime == af_clip.model.encoder.tower.runtime


def test_the_runtime_stays_on_its_machine(shallow_clip, tmp_path):
    arguments = {"pretrained": str(shallow_clip)}
    model = AFClip(image_size=IMAGE_SIZE, runtime="openvino", **FEW, **arguments)
    assert "runtime" not in model.record()["settings"]
    path = save_checkpoint(model, tmp_path / "model.ckpt")
    assert AFClip.load_from_checkpoint(path, **arguments).model.encoder.tower is None
    given = AFClip.load_from_checkpoint(path, runtime="onnx", **arguments)
    assert given.model.encoder.tower.runtime == "onnx"
    given = AFClip(image_size=IMAGE_SIZE, runtime="onnx", **FEW, **arguments)
    given.load_checkpoint(path)
    assert given.model.encoder.tower.runtime == "onnx"


def test_an_ensemble_runs_its_members_and_describes_them_without_runtime(shallow_clip):
    member = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, runtime="openvino", **FEW)
    assert [each.tower.runtime for each in encoders_in(Ensemble([member]))] == ["openvino"]
    ensemble = Ensemble([member], runtime="onnx")
    assert [each.tower.runtime for each in encoders_in(ensemble)] == ["onnx"]
    (described,) = ensemble.hparams["models"]
    assert "runtime" not in described["hyper_parameters"]


def test_the_cache_keeps_features_of_each_runtime_apart(shallow_clip, tmp_path):
    def folder(runtime, precision="fp32"):
        encoder = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, precision=precision, **FEW).model.encoder
        run_towers(encoder, runtime)
        return FeatureCache.of(encoder, tmp_path, "float16").folder

    assert len({folder(runtime) for runtime in ("torch", *RUNTIMES)}) == 3
    assert folder("torch", "bf16") != folder("torch")
    assert folder("onnx", "bf16") == folder("onnx")  # in float32 in any case


def test_a_missing_package_is_named_before_the_images_are_read(shallow_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "find_spec", lambda _: None)
    model = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, runtime="openvino", **FEW)  # as a checkpoint may say
    message = r"runtime='openvino' needs openvino: pip install 'anomalib-zsad\[export\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        model.model(images())
    model.trained_on = ["VisA/candle"]
    (tmp_path / "damaged.png").write_bytes(b"no image")
    with pytest.raises(ModuleNotFoundError, match=message):
        engine_in(tmp_path).predict(model, data_path=tmp_path)


def test_images_on_another_device_are_refused(shallow_clip):
    model = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, runtime="onnx", **FEW).model
    with pytest.raises(ValueError, match=r"runtime='onnx' computes on the CPU, got images on meta: expected the CPU"):
        model(images().to("meta"))


def test_a_tower_that_a_runtime_cannot_compute_is_named(shallow_clip):
    pytest.importorskip("openvino")
    encoder = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, **FEW).model.encoder
    run_towers(encoder, "openvino")

    def read(clip, pictures, layers):
        return [pictures] if pictures.mean() > 0 else [2 * pictures]

    encoder.read = read
    with pytest.raises(
        RuntimeError, match=r"(?s)runtime='openvino' cannot compute this vision tower \(.*runtime='torch'"
    ):
        encoder(images())
