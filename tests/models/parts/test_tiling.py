"""Tiles of whole models: what the scores are made of, anomalib's callback, training, what travels, memories, graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.callbacks import TilerConfigurationCallback
from anomalib.data import InferenceBatch
from anomalib.data.utils.tiler import Tiler
from PIL import Image
from torch import Tensor

from anomalib_zsad import AFClip, Ensemble, KAnoClip, WMoEClip, calibrate
from anomalib_zsad.data import AllCategories, MagneticTile, VisA
from anomalib_zsad.models.parts.tiling import Tileable
from tests.support.contract import engine_in, moved, save_checkpoint
from tests.support.small_clip import IMAGE_SIZE

SMALL: dict[str, Any] = {"feature_layers": [4], "scales": [1]}
TILES: dict[str, Any] = {"tile": 28, "image_size": IMAGE_SIZE}


class Brightness(Tileable):
    """The mean brightness is the score of 4 x 4 pixels, their brightness times a factor of the image the map."""

    def __init__(self, tile_batch: int | None = 8) -> None:
        super().__init__()
        self.tiler, self.tile_batch = Tiler(4, 3), tile_batch
        self.at_a_time: list[int] = []

    def logits(self, images: Tensor, factors: list[float]) -> Tensor:  # (2, B, 4, 4)
        assert images.shape[-2:] == (4, 4)
        self.at_a_time.append(len(images))
        return torch.stack([images.mean(1), images.mean(1) * torch.tensor(factors)[:, None, None]])

    def score(self, logits: Tensor, size: tuple[int, int]) -> InferenceBatch:
        brightness, anomaly_map = logits
        assert brightness.shape[-2:] == size
        return InferenceBatch(pred_score=brightness.mean((1, 2)), anomaly_map=anomaly_map[:, None])


@pytest.mark.parametrize(("tile_batch", "most"), [(1, 1), (4, 4), (7, 6), (100, 30), (None, 30)])
def test_scores_are_joined_of_the_whole_picture_and_the_highest_tile(tile_batch, most):
    images = torch.rand(3, 3, 10, 7, generator=torch.Generator().manual_seed(0)) * 0.2
    images[1, :, 6:10, 0:4] = 1.0  # exactly one of the 3 x 2 tiles
    model, factors = Brightness(tile_batch), [1.0, 0.5, 0.0]
    result = model(images, factors)
    whole = images.mean((1, 2, 3))
    assert float(result.pred_score[1]) == pytest.approx(float(whole[1] + 1) / 2, abs=0.03)
    brightness = images.mean(1, keepdim=True)
    for row, factor in enumerate(factors):  # tiles that agree where they overlap give one another's map
        torch.testing.assert_close(result.anomaly_map[row], brightness[row] * factor)
    assert max(model.at_a_time) <= most
    assert sum(model.at_a_time) == 3 * (1 + 6)


def test_what_a_tile_covers_is_scored_without_one():
    model, image = Brightness(), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(model(image, [1.0, 1.0]).pred_score, image.mean((1, 2, 3)))
    assert model.at_a_time == [2]


@pytest.mark.parametrize("size", [(2, 3), (3, 9), (9, 1)])
def test_smaller_images_are_enlarged_and_their_maps_have_their_size(size):
    model, image = Brightness(), torch.full((1, 3, *size), 0.5)
    result = model(image, [1.0])
    torch.testing.assert_close(result.anomaly_map, torch.full((1, 1, *size), 0.5))
    torch.testing.assert_close(result.pred_score, torch.tensor([0.5]))


def test_borders_that_anomalib_s_tiler_would_remove_are_refused():
    model = Brightness()
    model.tiler = Tiler(4, 3, remove_border_count=1)
    with pytest.raises(ValueError, match="remove_border_count: expected 0, since overlapping tiles are blended, got 1"):
        model(torch.rand(1, 3, 9, 9), [1.0])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of several sizes."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number, (height, width) in enumerate([(70, 90), (100, 60), (40, 20)]):
        Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def build(clip: Path, kind: Any = AFClip, **arguments: Any) -> Any:
    model = kind(pretrained=clip, **{**(SMALL if kind is AFClip else {}), **arguments})
    model.trained_on = ["VisA/candle"]
    return model


def predicted(model: Any, images: Path, folder: Path, **options: Any) -> list[Any]:
    batches = engine_in(folder, **options).predict(model, data_path=images)
    return [(Path(each.image_path[0]).name, each.pred_score[0], each.anomaly_map[0]) for each in batches]


def test_images_that_keep_their_size_have_maps_of_their_size(small_clip, pictures, tmp_path):
    found = predicted(build(small_clip, tile=IMAGE_SIZE), pictures, tmp_path)
    assert [tuple(maps.shape[-2:]) for _, _, maps in found] == [(70, 90), (100, 60), (40, 20)]
    alone = predicted(build(small_clip, tile=IMAGE_SIZE, tile_batch=1), pictures / "1.png", tmp_path)
    torch.testing.assert_close(alone[0][2], found[1][2], atol=1e-5, rtol=0)


def test_anomalib_s_callback_tiles_as_the_arguments_do(small_clip, pictures, tmp_path):
    callback = TilerConfigurationCallback(enable=True, tile_size=28, stride=21)
    model = build(small_clip, image_size=IMAGE_SIZE)
    ours = predicted(build(small_clip, **TILES), pictures, tmp_path)
    theirs = predicted(model, pictures, tmp_path, callbacks=[callback])
    for (_, score, maps), (_, other, others) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(score, other)
        torch.testing.assert_close(maps, others)
    assert (model.model.tiler.tile_size_h, model.model.tiler.stride_h) == (28, 21)


def test_an_ensemble_tiles_by_its_members(small_clip, other_clip):
    members = [build(clip, image_size=IMAGE_SIZE) for clip in (small_clip, other_clip)]
    tiled_ones = [build(clip, **TILES) for clip in (small_clip, other_clip)]
    ensembles = [Ensemble(each) for each in (members, tiled_ones)]
    ensembles[0].model.tiler = Tiler(28, 21)
    image, sums = torch.rand(1, 3, 90, 70), torch.tensor([[[2.0, 1.0, 0.6]] * 2] * 2)
    results = []
    for ensemble in ensembles:
        ensemble.model.fit(sums)
        results.append(ensemble.model(image))
    assert torch.equal(results[0].anomaly_map, results[1].anomaly_map)
    ensembles[0].model.tiler = None
    assert (ensembles[0].model(image).anomaly_map - results[1].anomaly_map).abs().max() > 1e-3


def test_training_sees_whole_images_of_the_size_of_a_tile(small_clip, visa_root, tmp_path):
    """What is learnt is the same to the last bit; only the thresholds, fitted to tiled images, differ."""
    weights, thresholds = [], []
    for options in ({"image_size": IMAGE_SIZE}, {"tile": IMAGE_SIZE, "image_size": 112}, {"tile": IMAGE_SIZE}):
        model = AFClip(pretrained=small_clip, **SMALL, **options, epochs=1, lr=1e-2)
        data = VisA(visa_root, ["candle", "pcb1"], val_ratio=0.3, num_workers=0, train_batch_size=2)
        engine_in(tmp_path, limit_train_batches=2).fit(model, datamodule=data)
        weights.append({name: each for name, each in model.named_parameters() if each.requires_grad})
        thresholds.append(model.post_processor.raw_threshold("image"))
    for others in weights[1:]:
        assert all(torch.equal(each, others[name]) for name, each in weights[0].items())
    assert len(set(map(float, thresholds))) > 1


def test_tiles_travel_with_checkpoint_and_adapter_file(small_clip, pictures, tmp_path):
    model = build(small_clip, **TILES, tile_overlap=0.5, tile_batch=3)
    model.save_weights(tmp_path / "tiled.safetensors")
    checkpoint = save_checkpoint(model, tmp_path / "tiled.ckpt")
    assert {"tile": 28, "tile_overlap": 0.5}.items() <= model.record()["settings"].items()
    image = torch.rand(1, 3, 90, 70)
    with torch.no_grad():
        expected = model.eval()(image).anomaly_map
        for other in (
            AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip),
            AFClip(pretrained=small_clip, weights=tmp_path / "tiled.safetensors"),
        ):
            assert other.model.tiler.stride_h == 14
            torch.testing.assert_close(other.eval()(image).anomaly_map, expected)
    again = build(small_clip)
    engine_in(tmp_path).predict(again, data_path=pictures / "0.png", ckpt_path=checkpoint)
    assert again.model.tiler.stride_h == 14
    assert again.pre_processor.train_transform is not None


def test_a_model_that_was_trained_without_tiles_is_used_with_them(small_clip, pictures, tmp_path):
    checkpoint = save_checkpoint(build(small_clip, image_size=28), tmp_path / "plain.ckpt")
    model = build(small_clip, tile=28)
    (batch,) = engine_in(tmp_path).predict(model, data_path=pictures / "0.png", ckpt_path=checkpoint)
    assert batch.anomaly_map.shape[-2:] == (70, 90)
    assert model.model.encoder.clip.image_size == (28, 28)


def test_references_are_remembered_in_tiles(small_clip, pictures, tmp_path):
    model = build(small_clip, reference=pictures, **TILES)
    rows = pd.DataFrame(predicted(model, pictures, tmp_path), columns=["file", "score", "map"])
    patches = (28 // 14) ** 2
    assert model.model.memory.features.shape[1] == 3 * (1 + 3 * 3) * patches
    assert all(float(maps.max()) < 0.5 for maps in rows["map"])
    model.save_weights(tmp_path / "memory.safetensors")
    other = AFClip(pretrained=small_clip, weights=tmp_path / "memory.safetensors", tile_overlap=0.5)
    with pytest.raises(
        ValueError, match=r"tiled as \[28, 28, 21, 21\] .* got images tiled as \[28, 28, 14, 14\]: pass"
    ):
        predicted(other, pictures, tmp_path)


def test_maps_and_masks_of_their_own_size_are_measured(small_clip, magnetic_tile_root, tmp_path):
    model = build(small_clip, tile=28)
    shapes = []
    model.evaluator.watch = lambda _, image: shapes.append((image.anomaly_map.shape, image.mask.shape))
    data = AllCategories(MagneticTile(magnetic_tile_root), eval_batch_size=4, num_workers=0)
    engine_in(tmp_path).test(model, datamodule=data)
    assert len({maps for maps, _ in shapes}) > 1
    assert all(maps == mask for maps, mask in shapes)
    assert model.evaluator.table["pixel_AUROC"].notna().any()


def test_a_draw_of_text_belongs_to_the_image_not_to_its_tiles(small_clip, pictures, tmp_path):
    model = build(small_clip, WMoEClip, **TILES, choices={"inference_sampling": "monte_carlo"})
    first, second = (predicted(model, pictures, tmp_path) for _ in range(2))
    assert all(torch.isfinite(score) for _, score, _ in first + second)


def test_a_calibration_scores_tiles_too(small_clip, pictures):
    model = build(small_clip, tile=IMAGE_SIZE)
    calibration = calibrate(model, pictures, false_alarms=0.5)
    assert len(calibration.image_scores) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 30}, "multiple of the patch size 14 x 14 on both sides, and so must tile .* got 30 x 30"),
        ({"tile": 112, "image_size": 56}, "tile must not be larger than image_size on either side, got tile=112"),
        ({"tile": 28, "tile_overlap": 1.0}, r"tile_overlap must be a number in \[0, 0.9\], got 1.0"),
        ({"tile": 28, "tile_batch": 0}, r"tile_batch must be an integer in \[1, 1024\], got 0"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(small_clip, options, message):
    with pytest.raises(ValueError, match=message):
        build(small_clip, **options)


def test_maps_that_are_stretched_image_by_image_are_refused(small_clip):
    with pytest.raises(ValueError, match="map_norm='minmax' would stretch the map of each tile"):
        build(small_clip, KAnoClip, tile=28, choices={"map_norm": "minmax"})


# Graphs


@pytest.mark.slow
def test_a_graph_of_one_size_tiles_inside_with_the_memory_of_tiles(shallow_clip, pictures, tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    options = {"feature_layers": [2], "tuning": "lora", "tile": 28, "reference": pictures / "2.png"}
    model = moved(build(shallow_clip, **options)).eval()
    graph = model.to_onnx(tmp_path, input_size=(40, 42))
    session = onnxruntime.InferenceSession(graph)
    assert session.get_inputs()[0].shape[1:] == [3, 40, 42]
    with pytest.raises(Exception, match=r"(?i)invalid dimensions"):
        session.run(None, {"input": np.zeros((1, 3, 42, 40), np.float32)})
    exact = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = torch.rand(3, 3, 40, 42)
    with torch.no_grad():
        expected = model(images)
    for rows in ([0], [0, 1, 2]):
        given = {"input": images[rows].numpy()}
        score, maps = session.run(["pred_score", "anomaly_map"], given)
        found = exact(given)
        for scores, of_maps in ((score, maps), (found["pred_score"], found["anomaly_map"])):
            np.testing.assert_allclose(scores, expected.pred_score[rows], atol=1e-3, rtol=0)
            np.testing.assert_allclose(of_maps, expected.anomaly_map[rows], atol=1e-3, rtol=0)


def test_a_graph_of_any_size_needs_the_size_of_the_images(small_clip, tmp_path):
    with pytest.raises(ValueError, match="a graph holds a fixed number of tiles, so expected the size of the images"):
        build(small_clip, tile=28).to_onnx(tmp_path)
