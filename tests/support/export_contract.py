"""What every exported method promises; a method's test is a subclass that names the model and its arguments."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.deploy import CompressionType, OpenVINOInferencer, TorchInferencer
from anomalib.models import AnomalibModule
from PIL import Image
from torch import Tensor

from anomalib_zsad.data import VisA
from tests.support.contract import engine_in, moved
from tests.support.small_clip import IMAGE_SIZE, SHALLOW

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

Answer = Callable[[Path], Any]
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""Processors that know bfloat16 compute in it unless told otherwise."""
VOCABULARY = SHALLOW["text_cfg"]["vocab_size"]


def picture(height: int, width: int, seed: int) -> np.ndarray:  # (H, W, 3)
    """Blocks of colour under fine noise: only with antialiasing does it look the same when it is small."""
    generator = np.random.default_rng(seed)
    blocks = Image.fromarray(generator.integers(60, 200, (7, 9, 3), dtype=np.uint8)).resize((width, height), 0)
    noise = generator.integers(-55, 55, (height, width, 3))
    return (np.asarray(blocks) + noise).astype(np.uint8)


def feed(*paths: Path) -> np.ndarray:  # (B, 3, H, W) in [0, 1]
    """Read images for a plain runtime."""
    images = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in paths]
    return np.stack(images).transpose(0, 3, 1, 2)


class Alone(NamedTuple):
    """Images of one size, and what a model says of each of them alone."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    score: Tensor  # (B,)
    maps: Tensor  # (B, 1, h, w)


class ExportContract:
    """Subclass it, name the model, and every test below runs on it."""

    model_class: ClassVar[type[AnomalibModule]]
    arguments: ClassVar[dict[str, Any]] = {}
    text_tower_ships: ClassVar[bool] = False
    """Whether the image takes part in the text, so that what encodes it has to ship."""
    matrices: ClassVar[int] = 4
    """Matrix products of a block with weights: of attention into it and out of it, and two of the feed-forward."""

    @pytest.fixture(scope="class")
    def model(self, shallow_clip: Path) -> Any:
        """A model as if it were trained: parameters moved off their start, thresholds within its scores."""
        model = self.model_class(pretrained=shallow_clip, image_size=IMAGE_SIZE, **self.arguments).eval()
        moved(model)
        with torch.no_grad():
            raw = model.model(model.pre_processor.transform(torch.from_numpy(feed_of(picture(100, 100, seed=5)))))
            model.post_processor._image_threshold.copy_(raw.pred_score[0] * 0.9)
            model.post_processor._pixel_threshold.copy_(raw.anomaly_map.median())
        return model

    @pytest.fixture(scope="class")
    def files(self, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
        """A large JPEG and a PNG of one channel."""
        folder = tmp_path_factory.mktemp("files")
        Image.fromarray(picture(1000, 1400, seed=1)).save(folder / "large.jpg", quality=92)
        Image.fromarray(picture(300, 201, seed=2)[..., 0]).save(folder / "grey.png")
        return [folder / "large.jpg", folder / "grey.png"]

    @pytest.fixture(scope="class")
    def expected(self, model: Any, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
        """What Lightning says of them."""
        folder = tmp_path_factory.mktemp("expected")
        return [engine_in(folder).predict(model, data_path=path)[0] for path in files]

    @pytest.fixture(scope="class")
    def alone(self, model: Any) -> Alone:
        """Three images of one size that differ, and what the model says of each."""
        images = torch.from_numpy(np.concatenate([feed_of(picture(300, 201, seed)) for seed in (2, 3, 4)]))
        with torch.no_grad():
            answers = [model(image[None]) for image in images]
        assert len({round(each.pred_score.item(), 5) for each in answers}) == len(answers)
        return Alone(
            images, *(torch.cat([getattr(each, name) for each in answers]) for name in ("pred_score", "anomaly_map"))
        )

    @pytest.fixture(scope="class", autouse=True)
    def exported_once(self, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Write the ONNX graph for a size of images once: every OpenVINO graph is made of one."""
        export, made = self.model_class.to_onnx, {}

        def to_onnx(given: Any, export_root: Path, name: str = "model", input_size: Any = None, **options: Any) -> Path:
            if given is not model:
                return export(given, export_root, name, input_size, **options)
            if input_size not in made:
                made[input_size] = export(model, tmp_path_factory.mktemp("graph"), name, input_size, **options)
            path = Path(export_root, "weights", "onnx", f"{name}.onnx")
            shutil.copytree(made[input_size].parent, path.parent)  # the weights may be in a file beside the graph
            return path

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.model_class, "to_onnx", to_onnx)
            yield

    @pytest.fixture(scope="class")
    def graph(self, model: Any, exported_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """An ONNX graph for images of any size."""
        return model.to_onnx(tmp_path_factory.mktemp("graph"))

    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """OpenVINOInferencer leaves a cache where it runs."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TRUST_REMOTE_CODE", "1")

    # Same file, same answer

    def test_torch(
        self,
        model: Any,
        files: list[Path],
        expected: list[Any],
        alone: Alone,
        tmp_path: Path,
    ) -> None:
        path = model.to_torch(tmp_path)
        inferencer = TorchInferencer(path, device="cpu")
        assert path.stat().st_size < VOCABULARY * SHALLOW["text_cfg"]["width"] * 4
        with torch.no_grad():
            assert_same(inferencer.predict, files, expected, 1e-3)
            together = inferencer.model(alone.images)
        assert_same_together(together.pred_score, together.anomaly_map, alone)
        assert model.model.encoder.clip._clip.token_embedding is not None

    def test_onnx(self, graph: Path, files: list[Path], expected: list[Any], alone: Alone) -> None:
        session = onnxruntime.InferenceSession(graph)
        names = [output.name for output in session.get_outputs()]

        def answer(images: np.ndarray) -> InferenceBatch:
            return InferenceBatch(**dict(zip(names, session.run(None, {"input": images}), strict=True)))

        assert_same(lambda path: answer(feed(path)), files, expected, 1e-3)
        together = answer(alone.images.numpy())
        assert_same_together(together.pred_score, together.anomaly_map, alone)
        assert together.anomaly_map.shape == (3, 1, IMAGE_SIZE, IMAGE_SIZE)

    def test_openvino(
        self,
        model: Any,
        files: list[Path],
        expected: list[Any],
        alone: Alone,
        tmp_path: Path,
    ) -> None:
        inferencer = OpenVINOInferencer(model.to_openvino(tmp_path), device="CPU", config=EXACT)
        assert_same(inferencer.predict, files, expected, 1e-3)
        together = inferencer.model(alone.images.numpy())
        assert_same_together(together["pred_score"], together["anomaly_map"], alone)

    @pytest.mark.slow
    def test_openvino_fp16(self, model: Any, files: list[Path], expected: list[Any], tmp_path: Path) -> None:
        path = model.to_openvino(tmp_path, compression_type=CompressionType.FP16)
        assert_same(OpenVINOInferencer(path, device="CPU", config=EXACT).predict, files, expected, 1e-2)

    # What ships

    def test_text_is_folded(self, graph: Path) -> None:
        held = onnx.load(graph, load_external_data=False).graph.initializer
        assert any("visual.conv1.weight" in tensor.name for tensor in held)
        assert not any("token_embedding" in tensor.name or VOCABULARY in tensor.dims for tensor in held)
        assert any("clip.transformer" in tensor.name for tensor in held) == self.text_tower_ships

    def test_nothing_tells_of_the_machine_that_wrote_it(self, graph: Path) -> None:
        content = graph.read_bytes()
        assert b"stack_trace" not in content
        assert str(Path(__file__).parents[2]).encode() not in content

    # Eight bits

    @pytest.mark.slow
    def test_eight_bit_weights(self, model: Any, files: list[Path], expected: list[Any], tmp_path: Path) -> None:
        pytest.importorskip("nncf")
        path = model.to_openvino(tmp_path, compression_type=CompressionType.INT8)
        assert len(stored_in_eight_bits(path)) == self.matrices * SHALLOW["vision_cfg"]["layers"]
        assert_same(OpenVINOInferencer(path, device="CPU", config=EXACT).predict, files, expected, 5e-2)

    @pytest.mark.slow
    def test_eight_bit_arithmetic(
        self, model: Any, files: list[Path], expected: list[Any], visa_root: Path, tmp_path: Path
    ) -> None:
        pytest.importorskip("nncf")
        data = VisA(visa_root, ["candle"], val_ratio=0.3, num_workers=0)
        path = model.to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ, datamodule=data)
        assert len(stored_in_eight_bits(path)) == self.matrices * SHALLOW["vision_cfg"]["layers"]
        assert_same(OpenVINOInferencer(path, device="CPU", config=EXACT).predict, files[1:], expected[1:], 1e-1)

    # Refusals

    def test_untrained_is_refused(self, shallow_clip: Path, tmp_path: Path) -> None:
        untrained = self.model_class(pretrained=shallow_clip, image_size=IMAGE_SIZE, **self.arguments)
        for export in (untrained.to_torch, untrained.to_onnx, untrained.to_openvino):
            with pytest.raises(ValueError, match="holds no trained weights"):
                export(tmp_path)
        assert not list(tmp_path.rglob("model.*"))


def feed_of(
    pixels: np.ndarray,  # (H, W, 3)
) -> np.ndarray:  # (1, 3, H, W) in [0, 1]
    return pixels.astype(np.float32).transpose(2, 0, 1)[None] / 255


def assert_same(answer: Answer, files: list[Path], expected: list[Any], tolerance: float) -> None:
    """Scores and maps are near, and decisions the same but where a score lies on the threshold."""
    for path, wanted in zip(files, expected, strict=True):
        got = answer(path)
        score, maps = np.asarray(got.pred_score).squeeze(), np.asarray(got.anomaly_map).squeeze()
        np.testing.assert_allclose(score, wanted.pred_score.squeeze().numpy(), atol=tolerance, rtol=0)
        np.testing.assert_allclose(maps, wanted.anomaly_map.squeeze().numpy(), atol=tolerance, rtol=0)
        assert bool(np.asarray(got.pred_label).squeeze()) == bool(score > 0.5)
        sure = np.abs(wanted.anomaly_map.squeeze().numpy() - 0.5) > tolerance
        assert (np.asarray(got.pred_mask).squeeze() == wanted.pred_mask.squeeze().numpy())[sure].all()


def assert_same_together(score: Any, maps: Any, alone: Alone) -> None:
    """Each image of a batch is scored as it is alone."""
    np.testing.assert_allclose(np.asarray(score), alone.score.numpy(), atol=1e-3, rtol=0)
    np.testing.assert_allclose(np.asarray(maps), alone.maps.numpy(), atol=1e-3, rtol=0)


def stored_in_eight_bits(path: Path) -> list[Any]:
    """The matrices of a graph that are held in eight bits."""
    nodes = openvino.Core().read_model(path).get_ordered_ops()
    constants = [node for node in nodes if node.get_type_name() == "Constant" and sum(n > 1 for n in node.shape) == 2]
    return [node for node in constants if node.get_element_type() in (openvino.Type.i8, openvino.Type.u8)]
