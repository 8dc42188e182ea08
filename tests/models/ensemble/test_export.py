from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.deploy import CompressionType, OpenVINOInferencer, TorchInferencer
from anomalib.models import Padim
from PIL import Image

from anomalib_zsad.models import AFClip, Ensemble
from tests.models.ensemble.conftest import bottles
from tests.support.contract import engine_in, moved
from tests.support.export_contract import EXACT, VOCABULARY, assert_same, feed, picture, stored_in_eight_bits
from tests.support.small_clip import IMAGE_SIZE, SHALLOW

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def ensemble(padim: Path, mvtec_root: Path, shallow_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint: two AF-CLIPs that differ, on one backbone, and PaDiM."""
    members = [Padim.load_from_checkpoint(padim)]
    for seed in (0, 1):
        # One layer and one window: exporting takes time by the operation.
        member = AFClip(pretrained=shallow_clip, image_size=IMAGE_SIZE, feature_layers=[2], scales=[1])
        members.append(moved(member, seed))
    engine = engine_in(tmp_path_factory.mktemp("ensemble"))
    engine.fit(Ensemble(members, pretrained=shallow_clip), datamodule=bottles(mvtec_root))
    return Path(engine.best_model_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    for number, size in enumerate([(500, 700), (201, 300)]):
        Image.fromarray(picture(*size, seed=number)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(ensemble: Path, shallow_clip: Path, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list:
    """What Lightning says of them."""
    folder = tmp_path_factory.mktemp("expected")
    return [
        engine_in(folder).predict(Ensemble(pretrained=shallow_clip), data_path=path, ckpt_path=ensemble)[0]
        for path in files
    ]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")


@pytest.fixture(scope="module")
def graph(ensemble: Path, shallow_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    return engine_in(folder).export(Ensemble(pretrained=shallow_clip), "onnx", export_root=folder, ckpt_path=ensemble)


@torch.no_grad()
def test_torch(ensemble, shallow_clip, files, expected, tmp_path):
    path = engine_in(tmp_path).export(
        Ensemble(pretrained=shallow_clip), "torch", export_root=tmp_path, ckpt_path=ensemble
    )
    inferencer = TorchInferencer(path, device="cpu")
    assert_same(inferencer.predict, files, expected, 1e-3)
    assert not any(getattr(each, "num_embeddings", 0) == VOCABULARY for each in inferencer.model.modules())


@pytest.mark.slow
def test_onnx(graph, files, expected):
    session = onnxruntime.InferenceSession(graph)
    names = [output.name for output in session.get_outputs()]

    def answer(*paths: Path) -> InferenceBatch:
        return InferenceBatch(**dict(zip(names, session.run(None, {"input": feed(*paths)}), strict=True)))

    assert_same(answer, files, expected, 1e-3)
    together = answer(*[files[0]] * 3).pred_score
    np.testing.assert_allclose(together, expected[0].pred_score.numpy().repeat(3), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_the_graph_holds_the_backbone_once_and_no_words(graph):
    held = onnx.load(graph, load_external_data=False).graph.initializer
    assert not any("token_embedding" in tensor.name or VOCABULARY in tensor.dims for tensor in held)
    assert len([tensor.name for tensor in held if "visual.conv1.weight" in tensor.name]) == 1


@pytest.mark.slow
def test_openvino(graph, files, expected):
    assert_same(OpenVINOInferencer(graph, device="CPU", config=EXACT).predict, files, expected, 1e-3)


@pytest.mark.slow
def test_eight_bits_are_for_the_backbone(ensemble, shallow_clip, graph, files, expected, tmp_path):
    pytest.importorskip("nncf")
    model = Ensemble.load_from_checkpoint(ensemble, pretrained=shallow_clip)
    small = model._compress_ov_model(openvino.convert_model(graph), CompressionType.INT8)
    openvino.save_model(small, tmp_path / "model.xml", compress_to_fp16=False)
    assert len(model.block_weights()) == 2 * 4 * SHALLOW["vision_cfg"]["layers"]
    assert 0 < len(stored_in_eight_bits(tmp_path / "model.xml")) <= len(model.block_weights())
    assert_same(OpenVINOInferencer(tmp_path / "model.xml", device="CPU", config=EXACT).predict, files, expected, 2e-1)


def test_members_of_one_backbone_hold_it_once(af_clip, small_clip):
    members = Ensemble(
        [af_clip, AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)], pretrained=small_clip
    ).model.members
    assert members[0].model.encoder.clip.clip is members[1].model.encoder.clip.clip
