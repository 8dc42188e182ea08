import pytest

from anomalib_zsad.knowledge.journal import Journal, key_of

ANSWER = {"content": "text", "thinking": "", "complete": True}


def test_answers_are_there_again(tmp_path):
    path = tmp_path / "new" / "kb.jsonl"
    Journal(path).add("a", **ANSWER)
    Journal(path).add("b", **ANSWER, name="cup")
    again = Journal(path)
    assert again.get("a") == {"key": "a", **ANSWER}
    assert again.get("b")["name"] == "cup"
    assert again.get("c") is None


def test_a_last_line_that_was_cut_off_counts_for_nothing(tmp_path):
    path = tmp_path / "kb.jsonl"
    Journal(path).add("a", **ANSWER)
    Journal(path).add("b", **ANSWER)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole) - 1):
        path.write_bytes(whole[:end])
        journal = Journal(path)
        assert journal.get("a")
        assert journal.get("b") is None
        journal.add("c", **ANSWER)
        assert [bool(Journal(path).get(key)) for key in "abc"] == [True, False, True]


def test_a_last_line_without_its_end_is_whole(tmp_path):
    path = tmp_path / "kb.jsonl"
    Journal(path).add("a", **ANSWER)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    Journal(path).add("b", **ANSWER)
    assert all(Journal(path).get(key) for key in "ab")


@pytest.mark.parametrize("torn", [b'{"key": "t", "cont', b"{", b"\0\0\0\0", b'{"key": "\xc3'])
def test_builds_that_share_a_torn_journal_lose_no_answer(tmp_path, torn):
    path = tmp_path / "kb.jsonl"
    path.write_bytes(torn)
    builds = [Journal(path), Journal(path)]
    for number in range(4):
        builds[number % 2].add(f"answer {number}", **ANSWER)
    # What was cut off under the lines of another build, as where the disk was full for a moment.
    path.write_bytes(path.read_bytes() + torn + b'{"key": "last", "content": "", "thinking": "", "complete": true}\n')
    again = Journal(path)
    assert all(again.get(key) for key in ("answer 0", "answer 1", "answer 2", "answer 3", "last"))


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"a": 1}\n', b"\xff\xfe\n\n"])
def test_other_files_are_left_alone(tmp_path, content):
    path = tmp_path / "kb.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"kb.jsonl, line 1: expected an answer of an earlier build"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_key_depends_on_every_part():
    parts = ["llama", "digest", "question", "cup", "", {"seed": 0}]
    keys = {key_of(*parts)} | {key_of(*parts[:i], "other", *parts[i + 1 :]) for i in range(len(parts))}
    assert len(keys) == len(parts) + 1
    assert key_of("a", "b") != key_of("ab", "")
