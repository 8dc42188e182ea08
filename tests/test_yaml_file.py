from pathlib import Path

import pytest

from anomalib_zsad.yaml_file import read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    "content",
    [
        LAUGHS,
        "a: &a [*a]",
        "a: &a {b: *a}",
        "[" * 600,
        "# " + "x" * (1 << 20),
        "a: [",
        "a: !!python/object/apply:os.system [true]",
        "a: 2026-13-45",
        "a: 0b_",
        "a: !!timestamp x",
        "? [a]\n: b",
        "a: \0",
        b"a: \xff",
        "1" * 5000,
    ],
    ids=range(14),
)
def test_a_file_that_is_none_ends_in_one_line(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "names.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"names\.yaml: expected names, but it is no YAML that can be read \(.+\)$"):
        read_yaml(path, "names")


def test_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n")
    assert read_yaml(path, "names") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}
    path.write_text("# nothing\n")
    assert read_yaml(path, "names") is None
