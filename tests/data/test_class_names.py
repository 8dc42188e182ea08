from anomalib_zsad.data.class_names import own_names


def test_a_file_of_names_is_read_the_same_wherever_it_is(tmp_path, monkeypatch):
    (tmp_path / "names.yaml").write_text("Screw: große Schraube\n", encoding="utf-8")
    monkeypatch.setattr("io.text_encoding", lambda encoding, _=2: encoding or "ascii")  # another machine's own
    assert own_names(tmp_path / "names.yaml") == {"screw": "große Schraube"}
