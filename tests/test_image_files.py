import os
from pathlib import Path

import pytest

from anomalib_zsad.image_files import foreign_among, images_below, images_in, images_of

FOREIGN = ("._0.png", "Thumbs.db", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/good/._0.png", "@eaDir/0.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("good/1.PNG", "good/0.jpeg", *(f"good/{name}" for name in FOREIGN), *FOREIGN):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "good/pipe.png")
    (tmp_path / "good/folder.png").mkdir()
    return tmp_path


def test_images_are_told_from_what_systems_put_beside_and_above_them(folder: Path) -> None:
    expected = [folder / "good/0.jpeg", folder / "good/1.PNG"]
    assert images_in(folder / "good") == images_below(folder) == images_of(folder) == expected


def test_foreign_files_of_a_table_are_told_below_the_folder_of_all_files() -> None:
    paths = ["/home/.cache/set/good/0.png", "/home/.cache/set/good/._0.png", Path("/home/.cache/set/.trash/1.png")]
    assert foreign_among(paths) == [False, True, True]
    assert foreign_among([]) == []


def test_a_link_whose_end_is_missing_is_left_for_the_reader_to_name(tmp_path: Path) -> None:
    (tmp_path / "0.png").symlink_to(tmp_path / "gone.png")
    assert images_of(tmp_path) == [tmp_path / "0.png"]


def test_what_holds_no_image_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder .*gone: expected an image or a folder"):
        images_of(folder / "gone")
    with pytest.raises(ValueError, match=r"Expected images \(\.jpg, .*Thumbs\.db has the suffix '\.db'"):
        images_of(folder / "Thumbs.db")
    (folder / "@eaDir/0.png").unlink()
    with pytest.raises(ValueError, match=r"@eaDir holds none"):
        images_of(folder / "@eaDir")
