import csv
import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_zsad.line import results as module
from anomalib_zsad.line.results import COLUMNS, Results, Row


def row(number: int, **more) -> Row:
    values = {"score": 0.25, "label": "normal", "identity": [7, number], "image": f"{number}.png", **more}
    return Row(number=number, time="2026-11-30T12:00:00.000+01:00", model="abc", **values)


def add(folder: Path, rows) -> None:
    results = Results(folder)
    list(results.earlier())
    for each in rows:
        results.add(each)
    results.close()


def earlier(folder: Path) -> list[Row]:
    results = Results(folder)
    rows = list(results.earlier())
    results.close()
    return rows


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


ROWS = [row(1), row(2, image='ü, "x".png', p_value=0.01, drift=1e-9), row(3, score=None, label=None, error="no image")]


def test_rows_are_in_both_files_and_come_back(tmp_path):
    add(tmp_path, ROWS)
    assert earlier(tmp_path) == ROWS
    add(tmp_path, [row(4)])
    assert earlier(tmp_path) == [*ROWS, row(4)]
    found = table(tmp_path)
    assert list(found[0]) == COLUMNS
    assert [each["number"] for each in found] == ["1", "2", "3", "4"]
    assert found[1]["image"] == ROWS[1].image
    assert (found[2]["score"], found[2]["error"]) == ("", "no image")


@settings(max_examples=15)
@given(st.floats(0, 1), st.binary(max_size=3))
def test_of_a_line_that_was_cut_off_nothing_counts(share, left):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        add(folder, ROWS)
        journal = folder / "results.jsonl"
        content = journal.read_bytes()
        kept = content[: round(share * len(content))]
        journal.write_bytes(kept + left.replace(b"\n", b""))
        whole = kept.count(b"\n")
        assert earlier(folder) == ROWS[:whole]
        add(folder, ROWS[whole:])
        assert earlier(folder) == ROWS
        assert len(table(folder)) == 3


def test_a_long_torn_line_is_removed(tmp_path):
    add(tmp_path, ROWS)
    with (tmp_path / "results.jsonl").open("ab") as file:
        file.write(b"x" * 200_000)
    assert earlier(tmp_path) == ROWS


def test_a_row_is_on_the_disk_before_add_returns(tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr(module.os, "fsync", lambda file: (synced.append(os.fstat(file).st_size), sync(file)))
    add(tmp_path, ROWS[:1])
    assert (tmp_path / "results.jsonl").stat().st_size in synced


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_no_part_of_a_row(tmp_path, monkeypatch):
    results = Results(tmp_path)
    list(results.earlier())
    results.add(ROWS[0])

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        results.add(ROWS[1])
    assert caught.value.filename == str(tmp_path / "results.jsonl")
    monkeypatch.undo()
    results.close()
    assert earlier(tmp_path) == ROWS[:1]


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    first = Results(tmp_path)
    with pytest.raises(ValueError, match="another process writes its results there"):
        Results(tmp_path)
    first.close()
    Results(tmp_path).close()


def test_a_journal_of_another_kind_is_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"number": 1}\n')
    results = Results(tmp_path)
    with pytest.raises(ValueError, match=r"results.jsonl, line 1: expected the results of an earlier run"):
        list(results.earlier())
    results.close()


def test_a_name_is_no_formula(tmp_path):
    add(tmp_path, [row(1, image="=1+1.png")])
    assert table(tmp_path)[0]["image"] == "'=1+1.png"
