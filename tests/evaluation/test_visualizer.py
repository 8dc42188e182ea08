from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import DepthBatch
from lightning.pytorch import Trainer
from PIL import Image
from torchvision.transforms.v2.functional import resize

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.evaluation.visualizer import CategoryVisualizer
from anomalib_zsad.models.parts.pre_processor import ClipPreProcessor
from tests.support.scored_batches import Passing, Scored, scored_batch

TrainerWith = Callable[..., Trainer]
_RED, _BLUE, _ROTATE_90 = (200, 0, 0), (0, 0, 200), 6


def batch_of(paths: list[Path], categories: list[str]) -> CategoryBatch:
    maps = np.tile(np.linspace(0, 0.4, 8, dtype=np.float32), (len(paths), 8, 1))
    batch = scored_batch([0.5] * len(paths), None, maps, category=categories)
    batch.image_path = [str(path) for path in paths]
    batch.image = torch.stack([resize(read_image(path), [8, 8]) for path in paths])
    return batch.update(pred_mask=torch.zeros(len(paths), 8, 8, dtype=torch.bool))


def saved(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)
    return path


def first_field(path: Path) -> np.ndarray:
    """The image that heads the row of pictures, to the few grey levels that JPEG costs."""
    with Image.open(path) as picture:
        return np.round(np.asarray(picture)[:, :256].astype(int), -1)


def drawn(trainer: Trainer, batch: CategoryBatch, stage: str) -> None:
    getattr(trainer, stage)(Passing(), datamodule=Scored([batch]))


def test_nothing_is_written_outside_of_the_pictures_whatever_a_category_or_folder_is_called(
    trainer_with: TrainerWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path / "data/good/000.png", _RED)
    before = source.read_bytes()
    monkeypatch.chdir(source.parent)
    images = [source, Path("../good/000.png"), Path("000.png")]
    categories = [str(tmp_path / "data"), "../../../escaped", "a\x00b\n"]

    drawn(trainer_with(CategoryVisualizer(output_dir=tmp_path / "out")), batch_of(images, categories), "test")

    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
    assert len(list((tmp_path / "out").glob("*/*/000.jpg"))) == 3


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_images_of_one_name_in_two_categories_have_their_own_pictures(
    trainer_with: TrainerWith, tmp_path: Path, stage: str
) -> None:
    colours = {"bottle": _RED, "cable": _BLUE}
    paths = [saved(tmp_path / name / "test/good/000.png", colour) for name, colour in colours.items()]
    drawn(trainer_with(CategoryVisualizer()), batch_of(paths, list(colours)), stage)
    for name, colour in colours.items():
        assert tuple(first_field(tmp_path / "images" / name / "good/000.jpg")[200, 200]) == colour


def test_images_of_one_name_in_one_category_are_numbered_and_a_second_run_replaces_them(
    trainer_with: TrainerWith, tmp_path: Path
) -> None:
    paths = [saved(tmp_path / line / "good/000.png", colour) for line, colour in (("a", _RED), ("b", _BLUE))]
    visualizer = CategoryVisualizer()
    for _ in range(2):
        drawn(trainer_with(visualizer), batch_of(paths, ["object"] * 2), "predict")
    pictures = sorted((tmp_path / "images/object/good").iterdir())
    assert [path.name for path in pictures] == ["000.jpg", "000_2.jpg"]
    assert [tuple(first_field(path)[200, 200]) for path in pictures] == [_RED, _BLUE]


def test_images_are_shown_upright(trainer_with: TrainerWith, tmp_path: Path) -> None:
    path = tmp_path / "parts" / "turned.png"
    path.parent.mkdir()
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[15:] = 255  # white below, and to the left once it is turned clockwise
    exif = Image.Exif()
    exif[0x0112] = _ROTATE_90
    Image.fromarray(pixels).save(path, exif=exif)
    drawn(trainer_with(CategoryVisualizer()), batch_of([path], ["object"]), "predict")
    shown = first_field(tmp_path / "images/object/parts/turned.jpg")
    assert shown[200, 20].tolist() == [260] * 3
    assert shown[200, 236].tolist() == [0] * 3


def test_the_scale_of_a_map_does_not_depend_on_the_image(trainer_with: TrainerWith, tmp_path: Path) -> None:
    path = saved(tmp_path / "parts/black.png", (0, 0, 0))
    drawn(trainer_with(CategoryVisualizer(output_dir=tmp_path / "out")), batch_of([path], ["object"]), "test")
    with Image.open(tmp_path / "out/object/parts/black.jpg") as picture:
        heat = np.asarray(picture.convert("RGB"))[128:, 256:512].astype(int)
    # The highest score is 0.4: bluish green; red would be the end of a scale of its own.
    assert (heat[..., 0] < heat[..., 1:].max(axis=-1) + 1).all()


def test_images_of_one_long_name_and_of_one_pixel_are_drawn(trainer_with: TrainerWith, tmp_path: Path) -> None:
    name = "x" * 246 + ".png"
    paths = [saved(tmp_path / line / "good" / name, colour) for line, colour in (("a", _RED), ("b", _BLUE))]
    pixel = tmp_path / "pixel.png"
    Image.new("RGB", (1, 1), _RED).save(pixel)
    drawn(trainer_with(CategoryVisualizer()), batch_of([*paths, pixel], ["object"] * 3), "predict")
    pictures = [tmp_path / "images/object/good" / other for other in ("x" * 246 + ".jpg", "x" * 246 + "_2.jpg")]
    pictures.append(tmp_path / f"images/object/{tmp_path.name}/pixel.jpg")
    assert [tuple(first_field(path)[200, 200]) for path in pictures] == [_RED, _BLUE, _RED]


def test_a_picture_that_cannot_be_drawn_costs_a_warning(
    trainer_with: TrainerWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [saved(tmp_path / folder / name, _RED) for folder, name in (("a", "1.png"), ("a", "2.png"), ("b", "1.png"))]
    in_the_way = tmp_path / "images/object/a"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    drawn(trainer_with(CategoryVisualizer()), batch_of(paths, ["object"] * 3), "test")
    assert (tmp_path / "images/object/b/1.jpg").is_file()
    assert [record.message.split(": ")[0] for record in caplog.records if record.levelname == "WARNING"][-2:] == [
        f"No picture of {paths[0]}",
        "2 images have no picture; all of them have their scores.",
    ]


def test_only_what_is_anomalous_or_uncertain_is_drawn_on_request(trainer_with: TrainerWith, tmp_path: Path) -> None:
    paths = [saved(tmp_path / "parts" / f"{name}.png", _RED) for name in ("normal", "uncertain", "anomalous", "missed")]
    batch = batch_of(paths, ["object"] * 4)
    batch.pred_score, batch.gt_label = torch.tensor([0.1, 0.45, 0.9, 0.1]), torch.tensor([0, 0, 1, 1])
    drawn(trainer_with(CategoryVisualizer(least_score=0.4)), batch, "test")
    names = {path.stem for path in (tmp_path / "images/object/parts").iterdir()}
    assert names == {"uncertain", "anomalous", "missed"}


def test_the_picture_shows_what_the_model_was_given(trainer_with: TrainerWith, tmp_path: Path) -> None:
    path = saved(tmp_path / "parts/red.png", _RED)
    batch = batch_of([path], ["object"])
    model = Passing()
    model.pre_processor = ClipPreProcessor.of_size(8)
    batch.image = model.pre_processor.transform(batch.image)
    path.unlink()  # it is not read again
    trainer_with(CategoryVisualizer()).test(model, datamodule=Scored([batch]))
    assert tuple(first_field(tmp_path / "images/object/parts/red.jpg")[200, 200]) == _RED


def test_a_depth_image_has_a_picture(trainer_with: TrainerWith, tmp_path: Path) -> None:
    path = saved(tmp_path / "parts/red.png", _RED)
    flat = batch_of([path], ["object"])
    fields = {name: getattr(flat, name) for name in ("image", "image_path", "pred_score", "pred_mask", "anomaly_map")}
    drawn(trainer_with(CategoryVisualizer()), DepthBatch(depth_map=torch.zeros(1, 8, 8), **fields), "test")
    assert [each.name for each in tmp_path.glob("images/*/parts/*")] == ["red.jpg"]


def test_an_image_without_a_path_has_no_picture(
    trainer_with: TrainerWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = batch_of([saved(tmp_path / "any.png", _RED)], ["object"])
    batch.image_path = None
    drawn(trainer_with(CategoryVisualizer()), batch, "predict")
    assert "No picture of an image: it has no path. The run continues without it." in caplog.messages
