"""What graphs say of the model that they were exported of."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_zsad import AFClip, Ensemble
from anomalib_zsad._version import __version__
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.exported import KEY, ExportedRecord
from anomalib_zsad.functional.conformal import p_values
from anomalib_zsad.models.parts.exported_record import exported_record
from tests.support.small_clip import IMAGE_SIZE

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

SIZE = (40, 50)


@pytest.fixture(scope="module")
def model(small_clip: Path) -> AFClip:
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, feature_layers=[4], scales=[1]).eval()
    model.trained_on, model.thresholds_fitted_on = ["VisA/candle"], ["VisA"]
    return model


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.rand(12, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def calibrated(model: AFClip, pictures: torch.Tensor) -> AFClip:
    """On the raw scores of the first nine pictures."""
    with torch.no_grad():
        raw = model.model(model.pre_processor.transform(pictures[:9]))
    maxima = raw.anomaly_map.flatten(1).amax(1).tolist()
    model.post_processor.calibrate(Calibration.of_scores(raw.pred_score.tolist(), maxima, 0.1, source="good"))
    return model


@pytest.fixture(scope="module")
def graph(calibrated: AFClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated.to_onnx(tmp_path_factory.mktemp("graph"), input_size=SIZE)


def test_scores_of_an_onnx_graph_have_the_p_values_of_the_model(graph, calibrated, pictures):
    session = onnxruntime.InferenceSession(graph)
    record = ExportedRecord.of_text(session.get_modelmeta().custom_metadata_map[KEY])
    score, maps = session.run(["pred_score", "anomaly_map"], {"input": pictures.numpy()})
    with torch.no_grad():
        raw = calibrated.model(calibrated.pre_processor.transform(pictures)).pred_score
    new = slice(9, None)  # a picture of the calibration may fall on either side of its own score
    expected = calibrated.post_processor.calibration.p_values(raw)
    np.testing.assert_allclose(p_values(score[new], record.calibration.image_scores), expected[new])
    np.testing.assert_allclose(record.calibration.image_scores, sorted(score[:9].flatten()), atol=1e-4)
    np.testing.assert_allclose(record.calibration.map_maxima, sorted(maps[:9].max((1, 2, 3))), atol=1e-4)
    assert record.calibration.image_threshold == record.calibration.pixel_threshold == 0.5
    assert record.calibration.false_alarms == 0.1


def test_openvino_keeps_the_record(graph, calibrated, tmp_path, monkeypatch):
    monkeypatch.setattr(AFClip, "to_onnx", lambda *_, **__: graph)
    read = openvino.Core().read_model(calibrated.to_openvino(tmp_path))
    said = ExportedRecord.of_text(read.get_rt_info(["framework", KEY]).astype(str))
    assert said == exported_record(calibrated)


def test_it_names_the_model_without_folders(calibrated, small_clip):
    record = exported_record(calibrated)
    assert (record.method, record.version, record.trained_on) == ("AFClip", __version__, ["VisA/candle"])
    assert record.settings["pretrained"] == small_clip.name
    assert record.settings["scales"] == [1]
    assert record.thresholds["fitted_on"] == ["VisA"]
    assert record.thresholds["image"] == pytest.approx(float(calibrated.post_processor.raw_threshold("image")))


def test_without_a_calibration_and_of_an_ensemble(small_clip):
    member = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, post_processor=False)
    assert exported_record(member).calibration is None
    assert exported_record(member).thresholds == {"image": None, "pixel": None, "fitted_on": []}
    assert exported_record(Ensemble([member, member])).settings["models"] == ["AFClip", "AFClip"]
