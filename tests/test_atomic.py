import pytest

from anomalib_zsad.atomic import whole_file


def test_the_file_appears_with_its_whole_content_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    with whole_file(path) as temporary:
        temporary.write_text("a")
        assert not path.exists()
        assert temporary.suffix == ".csv"
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
