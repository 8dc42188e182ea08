"""Results of a test before any training become a version, and training goes on beside them."""

from anomalib.engine import engine


def test_a_folder_called_latest_becomes_a_version(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "metrics.csv").write_text("tested")
    assert engine.create_versioned_dir(tmp_path) == tmp_path / "v1"
    assert (tmp_path / "v0" / "metrics.csv").read_text() == "tested"
    assert (tmp_path / "latest").resolve() == tmp_path / "v1"
    assert engine.create_versioned_dir(tmp_path) == tmp_path / "v2"
