import errno
import logging
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from anomalib.cli import AnomalibCLI
from anomalib.data import MVTecAD
from anomalib.deploy import CompressionType, OpenVINOInferencer, TorchInferencer

from anomalib_zsad.data import Auxiliary, VisA
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.exported import KEY, ExportedRecord
from anomalib_zsad.functional.conformal import p_values
from anomalib_zsad.models import ACDClip, AFClip, AnomalyClip, KAnoClip, WMoEClip
from anomalib_zsad.models.parts import installed
from anomalib_zsad.models.parts.exported_record import exported_record
from anomalib_zsad.models.parts.feature_cache import FeatureCache
from tests.support.contract import UNSEEN, engine_in, moved
from tests.support.export_contract import EXACT, ExportContract, assert_same, feed
from tests.support.small_clip import IMAGE_SIZE

SMALL = {"feature_layers": [2], "scales": [1]}
"""Of AF-CLIP, one layer and one window: exporting takes time by the operation."""


def kinds_of(graph):
    return {node.op_type for node in onnx.load(graph, load_external_data=False).graph.node}


def assert_agrees_for_any_number_of_images(model, graph):
    session = onnxruntime.InferenceSession(graph)
    for count in (1, 3):
        pictures = torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(count))
        score, maps = session.run(["pred_score", "anomaly_map"], {"input": pictures.numpy()})
        expected = model(pictures)
        np.testing.assert_allclose(score.squeeze(), expected.pred_score.squeeze(), atol=1e-4, rtol=0)
        np.testing.assert_allclose(maps.squeeze(), expected.anomaly_map.squeeze(), atol=1e-4, rtol=0)


class TestAFClip(ExportContract):
    model_class = AFClip
    arguments: ClassVar = {"feature_layers": [1, 2], "scales": [3]}

    def test_openvino_reads_the_onnx_graph(self, graph, files, expected):
        assert_same(OpenVINOInferencer(graph, device="CPU", config=EXACT).predict, files, expected, 1e-3)


class TestACDClip(ExportContract):
    model_class = ACDClip
    arguments: ClassVar = {"n_groups": 2}


class TestWMoEClip(ExportContract):
    model_class = WMoEClip
    arguments: ClassVar = {"feature_layers": [2], "choices": {"gate_bn": True, "gate_noise": True}}
    text_tower_ships = True

    def test_the_graph_draws_no_random_number(self, graph):
        kinds = kinds_of(graph)
        assert {"TopK", "ScatterElements"} <= kinds
        assert not any("Random" in kind for kind in kinds)

    @torch.no_grad()
    def test_the_graph_agrees_for_any_number_of_images(self, model, graph):
        assert_agrees_for_any_number_of_images(model, graph)


class TestAnomalyClip(ExportContract):
    model_class = AnomalyClip
    matrices = 5  # out of V-V attention too, which OpenVINO stores a second time


class TestKAnoClip(ExportContract):
    model_class = KAnoClip
    arguments: ClassVar = {
        "feature_layers": [2],
        "choices": {
            "deform_kernel": 3,
            "deform_stride": 2,
            "vv_start_layer": 1,
            "deep_prompt_depth": 1,
            "bica_ffn": True,
            "bottleneck": 16,
            "conv_adapter_residual": 1.0,
        },
    }
    matrices = 5  # out of V-V attention too, which OpenVINO stores a second time

    def test_the_graph_draws_no_random_number(self, graph):
        assert not any("Random" in kind for kind in kinds_of(graph))

    @torch.no_grad()
    def test_the_graph_agrees_for_any_number_of_images(self, model, graph):
        assert_agrees_for_any_number_of_images(model, graph)


def test_a_failed_export_leaves_the_model_that_was_there(shallow_clip, tmp_path, monkeypatch):
    model = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, **SMALL)
    model.trained_on = ["unknown"]
    path = model.to_torch(tmp_path)
    assert path == tmp_path / "weights" / "torch" / "model.pt"
    before = path.read_bytes()

    def full(obj, f):
        f.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        model.to_torch(tmp_path)
    assert path.read_bytes() == before
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


@pytest.fixture
def model(shallow_clip):
    model = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, **SMALL)
    model.trained_on = ["VisA/candle"]
    return model


@pytest.mark.parametrize(("absent", "what"), [("onnxscript", "to_onnx"), ("openvino", "to_openvino")])
def test_missing_extras_are_named(model, absent, what, tmp_path, monkeypatch):
    found = installed.find_spec
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == absent else found(name))
    with pytest.raises(ModuleNotFoundError, match=rf"needs {absent}: pip install 'anomalib-zsad\[export\]'"):
        getattr(model, what)(tmp_path)


def test_missing_nncf_is_named_before_the_export(model, tmp_path, monkeypatch):
    found = installed.find_spec
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == "nncf" else found(name))
    with pytest.raises(ModuleNotFoundError, match=r"INT8 needs nncf: pip install 'anomalib-zsad\[export\]'"):
        model.to_openvino(tmp_path, compression_type=CompressionType.INT8)


def test_a_failed_conversion_leaves_the_root_logger_as_it_was(model, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no graph")
    monkeypatch.setattr(AFClip, "to_onnx", lambda *_, **__: damaged)
    root = logging.getLogger()
    before = (root.level, root.filters[:], root.handlers[:])
    with pytest.raises(Exception, match=r"(?i)damaged\.onnx|recognize|convert"):
        model.to_openvino(tmp_path)
    assert (root.level, root.filters, root.handlers) == before


def test_calibration_without_images_is_refused_before_the_export(model, tmp_path):
    with pytest.raises(ValueError, match=r"expected a datamodule \(--data\), got none"):
        model.to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ)


@torch.no_grad()
def test_weights_that_give_no_score_are_not_exported(model, tmp_path):
    next(each for each in model.parameters() if each.requires_grad).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"a grey image: expected scores in \[0, 1\], got pred_score nan"):
        model.to_torch(tmp_path)
    assert not list(tmp_path.rglob("*.pt"))


def test_exporting_leaves_the_model_as_it_was(model, tmp_path):
    images = torch.rand(1, 3, 40, 40)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    trainable = [name for name, value in model.named_parameters() if value.requires_grad]
    before = model.eval()(images).pred_score
    model.to_torch(tmp_path)
    assert torch.equal(model(images).pred_score, before)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], atol=0, rtol=0, equal_nan=True)
    assert trainable == [name for name, value in model.named_parameters() if value.requires_grad]
    assert model.post_processor._pixel_threshold_metric is not None


def test_the_cache_of_an_interrupted_training_does_not_ship(model, tmp_path):
    model.model.encoder.feature_cache = FeatureCache.of(model.model.encoder, tmp_path / "cache", "float16")
    exported = torch.load(model.to_torch(tmp_path), weights_only=False)["model"]
    exported(torch.rand(1, 3, 40, 40))
    assert not (tmp_path / "cache").exists()
    assert model.model.encoder.feature_cache is not None


def few_shot(clip: Path, **arguments) -> AFClip:
    model = AFClip(pretrained=clip, image_size=IMAGE_SIZE, **arguments)
    model.trained_on = ["VisA/candle"]
    return model


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(12, 3, 40, 50, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def with_memory(shallow_clip, mvtec_root, pictures):
    """All that a graph may hold beside the default: another tuning, a memory, and a calibration on nine pictures."""
    reference = mvtec_root / UNSEEN[0] / "train" / "good"
    model = moved(few_shot(shallow_clip, reference=reference, tuning="prefix", **SMALL)).eval()
    model.thresholds_fitted_on = ["VisA"]
    model.check_exportable()  # fills the memory
    with torch.no_grad():
        raw = model.model(model.pre_processor.transform(pictures[:9]))
    maxima = raw.anomaly_map.flatten(1).amax(1).tolist()
    model.post_processor.calibrate(Calibration.of_scores(raw.pred_score.tolist(), maxima, 0.1, source="good"))
    return model


@pytest.fixture(scope="module")
def graph_with_memory(with_memory, tmp_path_factory):
    return with_memory.to_onnx(tmp_path_factory.mktemp("memory"))


@pytest.fixture(scope="module")
def defective(mvtec_root):
    return next((mvtec_root / UNSEEN[0] / "test" / "broken").iterdir())


@pytest.fixture(scope="module")
def of_memory(with_memory, defective, tmp_path_factory):
    """What Lightning says of the defective image."""
    (prediction,) = engine_in(tmp_path_factory.mktemp("predicted")).predict(with_memory, data_path=defective)
    return prediction


def test_memory_ships(graph_with_memory, with_memory, of_memory, defective, shallow_clip, tmp_path, monkeypatch):
    images, session = feed(defective), onnxruntime.InferenceSession(graph_with_memory)
    score, maps = session.run(["pred_score", "anomaly_map"], {"input": images})
    np.testing.assert_allclose(score, of_memory.pred_score.numpy(), atol=1e-3, rtol=0)
    np.testing.assert_allclose(maps.squeeze(), of_memory.anomaly_map.squeeze().numpy(), atol=1e-3, rtol=0)
    zero_shot = moved(few_shot(shallow_clip, tuning="prefix", **SMALL)).eval()
    with torch.no_grad():
        raw = [each.model(each.pre_processor.transform(torch.from_numpy(images))) for each in (with_memory, zero_shot)]
    assert abs(raw[0].pred_score.item() - raw[1].pred_score.item()) > 1e-2
    monkeypatch.chdir(tmp_path)  # OpenVINOInferencer leaves a cache where it runs
    inferencer = OpenVINOInferencer(graph_with_memory, device="CPU", config=EXACT)
    assert_same(inferencer.predict, [defective], [of_memory], 1e-3)


@pytest.mark.slow
def test_memory_ships_in_eight_bits(
    graph_with_memory, with_memory, of_memory, defective, visa_root, tmp_path, monkeypatch
):
    data = VisA(visa_root, ["candle"], val_ratio=0.3, num_workers=0)
    monkeypatch.setattr(AFClip, "to_onnx", lambda *_, **__: graph_with_memory)
    graph = with_memory.to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ, datamodule=data)
    monkeypatch.chdir(tmp_path)
    inferencer = OpenVINOInferencer(graph, device="CPU", config=EXACT)
    assert_same(inferencer.predict, [defective], [of_memory], 1e-1)


def test_scores_of_a_graph_have_the_p_values_of_the_model(graph_with_memory, with_memory, pictures):
    session = onnxruntime.InferenceSession(graph_with_memory)
    record = ExportedRecord.of_text(session.get_modelmeta().custom_metadata_map[KEY])
    score, maps = session.run(["pred_score", "anomaly_map"], {"input": pictures.numpy()})
    with torch.no_grad():
        raw = with_memory.model(with_memory.pre_processor.transform(pictures)).pred_score
    new = slice(9, None)  # a picture of the calibration may fall on either side of its own score
    expected = with_memory.post_processor.calibration.p_values(raw)
    np.testing.assert_allclose(p_values(score[new], record.calibration.image_scores), expected[new])
    np.testing.assert_allclose(record.calibration.image_scores, sorted(score[:9].flatten()), atol=1e-4)
    np.testing.assert_allclose(record.calibration.map_maxima, sorted(maps[:9].max((1, 2, 3))), atol=1e-4)
    assert record.calibration.image_threshold == record.calibration.pixel_threshold == 0.5
    assert record.calibration.false_alarms == 0.1


def test_openvino_keeps_the_record(graph_with_memory, with_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(AFClip, "to_onnx", lambda *_, **__: graph_with_memory)
    read = openvino.Core().read_model(with_memory.to_openvino(tmp_path))
    said = ExportedRecord.of_text(read.get_rt_info(["framework", KEY]).astype(str))
    assert said == exported_record(with_memory)


def test_an_empty_memory_that_nothing_fills_is_refused(shallow_clip, tmp_path):
    with pytest.raises(ValueError, match=r"k_shot=2: expected a datamodule with normal training images, or reference"):
        few_shot(shallow_clip, k_shot=2, **SMALL).to_onnx(tmp_path)


def test_a_checkpoint_of_another_method_is_named(shallow_clip, mvtec_root, tmp_path):
    data = Auxiliary(MVTecAD(mvtec_root), UNSEEN, val_ratio=0, num_workers=0)
    engine = engine_in(tmp_path, limit_train_batches=1, limit_val_batches=0)
    engine.fit(ACDClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, n_groups=2, epochs=1), datamodule=data)
    with pytest.raises(ValueError, match="expected a checkpoint of AFClip, got one of ACDClip"):
        engine.export(few_shot(shallow_clip, **SMALL), "torch", ckpt_path=engine.best_model_path)
    assert not list(tmp_path.rglob("model.pt"))


@pytest.fixture(scope="module")
def trained(shallow_clip, visa_root, tmp_path_factory):
    """A checkpoint of an AF-CLIP with settings of its own."""
    folder = tmp_path_factory.mktemp("trained")
    engine = engine_in(folder, limit_train_batches=1)
    model = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, epochs=1, **SMALL)
    engine.fit(model, datamodule=VisA(visa_root, ["candle"], val_ratio=0.3, num_workers=0))
    return engine.best_model_path


def test_the_commands_export_what_they_predict_with_references(
    shallow_clip, trained, mvtec_root, tmp_path, monkeypatch
):
    picture = next((mvtec_root / UNSEEN[0] / "test" / "broken").iterdir())
    normal = mvtec_root / UNSEEN[0] / "train" / "good"
    common = ["--model", "anomalib_zsad.AFClip", f"--model.pretrained={shallow_clip}", f"--ckpt_path={trained}"]
    common += [f"--model.image_size={IMAGE_SIZE}", f"--model.reference={normal}"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    AnomalibCLI(args=["export", "--export_type", "torch", "--export_root=out", *common])
    cli = AnomalibCLI(args=["predict", "--data", str(picture), "--trainer.accelerator=cpu", *common])
    ((predicted,),) = [cli.engine.trainer.predict_loop.predictions]
    (exported,) = tmp_path.glob("out/**/model.pt")
    assert_same(TorchInferencer(exported, device="cpu").predict, [picture], [predicted], 1e-3)
