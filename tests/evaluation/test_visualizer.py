from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from scored_batches import Passing, Scored, scored_batch

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.evaluation.visualizer import CategoryVisualizer

TrainerWith = Callable[..., Trainer]
_RED, _BLUE, _ROTATE_90 = (200, 0, 0), (0, 0, 200), 6


def batch_of(paths: list[Path], categories: list[str]) -> CategoryBatch:
    maps = np.tile(np.linspace(0, 0.4, 8, dtype=np.float32), (len(paths), 8, 1))
    batch = scored_batch([0.5] * len(paths), None, maps, category=categories)
    batch.image_path = [str(path) for path in paths]
    return batch.update(pred_mask=torch.zeros(len(paths), 8, 8, dtype=torch.bool))


def saved(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)
    return path


def first_field(path: Path) -> np.ndarray:
    """The image that heads the row of pictures."""
    with Image.open(path) as picture:
        return np.asarray(picture)[:, :256]


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
    assert len(list((tmp_path / "out").glob("*/*/000.png"))) == 3


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_images_of_one_name_in_two_categories_have_their_own_pictures(
    trainer_with: TrainerWith, tmp_path: Path, stage: str
) -> None:
    colours = {"bottle": _RED, "cable": _BLUE}
    paths = [saved(tmp_path / name / "test/good/000.png", colour) for name, colour in colours.items()]
    drawn(trainer_with(CategoryVisualizer()), batch_of(paths, list(colours)), stage)
    for name, colour in colours.items():
        assert tuple(first_field(tmp_path / "images" / name / "good/000.png")[200, 200]) == colour


def test_images_of_one_name_in_one_category_are_numbered_and_a_second_run_replaces_them(
    trainer_with: TrainerWith, tmp_path: Path
) -> None:
    paths = [saved(tmp_path / line / "good/000.png", colour) for line, colour in (("a", _RED), ("b", _BLUE))]
    visualizer = CategoryVisualizer()
    for _ in range(2):
        drawn(trainer_with(visualizer), batch_of(paths, ["object"] * 2), "predict")
    pictures = sorted((tmp_path / "images/object/good").iterdir())
    assert [path.name for path in pictures] == ["000.png", "000_2.png"]
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
    shown = first_field(tmp_path / "images/object/parts/turned.png")
    assert shown[200, 20].tolist() == [255] * 3
    assert shown[200, 236].tolist() == [0] * 3


def test_the_scale_of_a_map_does_not_depend_on_the_image(trainer_with: TrainerWith, tmp_path: Path) -> None:
    path = saved(tmp_path / "parts/black.png", (0, 0, 0))
    drawn(trainer_with(CategoryVisualizer(output_dir=tmp_path / "out")), batch_of([path], ["object"]), "test")
    with Image.open(tmp_path / "out/object/parts/black.png") as picture:
        heat = np.asarray(picture.convert("RGB"))[128:, 256:512].astype(int)
    # The highest score is 0.4: bluish green; red would be the end of a scale of its own.
    assert (heat[..., 0] < heat[..., 1:].max(axis=-1) + 1).all()


def test_images_of_one_long_name_and_of_one_pixel_are_drawn(trainer_with: TrainerWith, tmp_path: Path) -> None:
    name = "x" * 246 + ".png"
    paths = [saved(tmp_path / line / "good" / name, colour) for line, colour in (("a", _RED), ("b", _BLUE))]
    pixel = tmp_path / "pixel.png"
    Image.new("RGB", (1, 1), _RED).save(pixel)
    drawn(trainer_with(CategoryVisualizer()), batch_of([*paths, pixel], ["object"] * 3), "predict")
    pictures = [tmp_path / "images/object/good" / other for other in (name, "x" * 246 + "_2.png")]
    pictures.append(tmp_path / f"images/object/{tmp_path.name}/pixel.png")
    assert [tuple(first_field(path)[200, 200]) for path in pictures] == [_RED, _BLUE, _RED]


def test_a_picture_that_cannot_be_drawn_costs_a_warning(
    trainer_with: TrainerWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone, there = tmp_path / "parts/gone.png", saved(tmp_path / "parts/there.png", _RED)
    drawn(trainer_with(CategoryVisualizer()), batch_of([gone, gone, there], ["object"] * 3), "test")
    assert (tmp_path / "images/object/parts/there.png").is_file()
    assert [record.message.split(": ")[0] for record in caplog.records if record.levelname == "WARNING"][-2:] == [
        f"No picture of {gone}",
        "2 images have no picture; all of them have their scores.",
    ]


def test_an_image_without_a_path_has_no_picture(
    trainer_with: TrainerWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = batch_of([tmp_path / "any.png"], ["object"])
    batch.image_path = None
    drawn(trainer_with(CategoryVisualizer()), batch, "predict")
    assert "No picture of an image: it has no path. The run goes on without it." in caplog.messages
