import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from anomalib_zsad.atomic import replace_together, unfinished_folder, whole_file, write_picture


def test_the_file_appears_with_its_whole_content_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    with whole_file(path) as temporary:
        temporary.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")

    def write_half():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*scores\.csv'$"),
        whole_file(tmp_path / "scores.csv"),
    ):
        raise full


def test_what_a_killed_process_left_is_no_image_and_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a" / "000.png") as temporary:
        temporary.touch()
    assert temporary.suffix not in Image.registered_extensions()
    old, fresh = tmp_path / "b" / temporary.name, tmp_path / "b" / f".{'0' * 8}{temporary.suffix}"
    old.parent.mkdir()
    old.touch()
    fresh.touch()
    os.utime(old, (0, 0))

    with whole_file(tmp_path / "b" / "001.png") as temporary:
        temporary.touch()

    assert sorted(path.name for path in old.parent.iterdir()) == [fresh.name, "001.png"]


def test_an_error_of_another_file_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^a\.png cannot be read$"), whole_file(tmp_path / "scores.csv"):
        raise OSError("a.png cannot be read")


def test_a_name_of_the_greatest_length_is_written_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 251}.BMP"
    write_picture(Image.new("RGB", (2, 2)), path)
    with Image.open(path) as picture:
        assert picture.format == "BMP"


def test_a_picture_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the suffix of a picture's format, such as \.png, got .*notes\.txt"):
        write_picture(Image.new("RGB", (2, 2)), tmp_path / "notes.txt")


@pytest.mark.parametrize("done", range(5))
def test_files_that_belong_together_are_never_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int) -> None:
    names = ["model.bin", "model.xml"]
    for name in names:
        (tmp_path / name).write_text("old")
    replace, calls = Path.replace, []

    def killed_after(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) > done:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed_after)
    with suppress(KeyboardInterrupt), unfinished_folder(tmp_path) as folder:
        for name in names:
            (folder / name).write_text("new")
        replace_together([folder / name for name in names], tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert "model.xml" not in found or len(set(found.values())) == 1
    assert found.keys() <= set(names)
