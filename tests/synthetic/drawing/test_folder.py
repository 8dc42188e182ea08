import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.synthetic.drawing import folder
from anomalib_zsad.synthetic.drawing.folder import MANIFEST, write_pictures
from anomalib_zsad.synthetic.drawing.recipe import Recipe, recipe_of

SIZE = 48


def recipes(seed: int = 0, good: int = 2, defective: int = 1) -> list[Recipe]:
    kinds = [("train", "good", 1), ("test", "good", good), ("test", "crack", defective)]
    return [Recipe(seed, SIZE, "plate", split, kind, n) for split, kind, count in kinds for n in range(count)]


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_layout_is_that_of_mvtec(tmp_path: Path) -> None:
    write_pictures(tmp_path, recipes())

    assert set(files(tmp_path)) == {
        "plate/drawn.json",
        "plate/train/good/000.png",
        "plate/test/good/000.png",
        "plate/test/good/001.png",
        "plate/test/crack/000.png",
        "plate/ground_truth/crack/000_mask.png",
    }
    picture = recipes()[-1].picture()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "plate/test/crack/000.png")), picture.image)
    mask = np.asarray(Image.open(tmp_path / "plate/ground_truth/crack/000_mask.png"))
    assert np.array_equal(mask, picture.mask * 255)


def test_names_tell_how_to_draw() -> None:
    for recipe in recipes(seed=3):
        assert recipe_of(str(recipe.root / recipe.name)) == recipe


def test_a_whole_set_is_only_read_and_a_killed_writer_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate/.0123abcd.unfinished").touch()
    write_pictures(tmp_path, recipes())
    monkeypatch.setattr(folder, "whole_file", None)
    monkeypatch.setattr(folder, "write_picture", None)
    write_pictures(tmp_path, recipes())


def test_pictures_of_a_dataset_are_all_different() -> None:
    pictures = [recipe.picture().image.tobytes() for recipe in recipes() + recipes(seed=1)]
    assert len(set(pictures)) == len(pictures)


def test_an_interrupted_drawing_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = folder._save, []

    def interrupted(values: np.ndarray, path: Path) -> None:
        if len(saved) == 4:
            raise KeyboardInterrupt
        saved.append(path)
        save(values, path)

    monkeypatch.setattr(folder, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_pictures(tmp_path, recipes())
    # The mask is there and its image is not: never the other way round.
    assert set(files(tmp_path / "plate/ground_truth")) == {"crack/000_mask.png"}
    assert not (tmp_path / "plate/test/crack").exists()

    monkeypatch.setattr(folder, "_save", save)
    write_pictures(tmp_path, recipes())
    write_pictures(tmp_path / "at once", recipes())
    assert files(tmp_path / "plate") == files(tmp_path / "at once" / "plate")


def test_nothing_is_drawn_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path, recipes())
    monkeypatch.setattr(folder, "_save", lambda *_: pytest.fail("drawn again"))
    write_pictures(tmp_path, recipes())


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (recipes(seed=1), "were drawn with seed 0, expected 1: choose another root"),
        (recipes(good=3), "were drawn with counts .*'test/good': 2.*, expected .*'test/good': 3"),
    ],
)
def test_pictures_of_other_settings_are_not_reused(tmp_path: Path, other: list[Recipe], told: str) -> None:
    write_pictures(tmp_path, recipes())
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match=told):
        write_pictures(tmp_path, other)
    assert files(tmp_path) == before


def test_pictures_of_another_program_are_not_reused(tmp_path: Path) -> None:
    write_pictures(tmp_path, recipes())
    manifest = tmp_path / "plate" / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "program": "older"}))
    with pytest.raises(FileExistsError, match="were drawn with program older"):
        write_pictures(tmp_path, recipes())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"plate holds files and no drawn\.json"):
        write_pictures(tmp_path, recipes())
    assert set(files(tmp_path)) == {"plate/mine.txt"}
