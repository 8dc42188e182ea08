from typing import Literal

import pytest

from anomalib_zsad.arguments import check_choices


def build(size: int, mode: Literal["sum", "mean"] = "sum", kind: Literal["a", "b"] | None = None) -> None:
    del size, mode, kind


@pytest.mark.parametrize("given", [{"mode": "mean", "kind": "b"}, {"mode": "sum", "kind": None}])
def test_what_the_annotation_names_is_taken(given: dict[str, object]) -> None:
    check_choices(build, {"size": "any", **given})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mode": "max", "kind": None}, "mode must be one of sum, mean, got 'max'"),
        ({"mode": None, "kind": None}, "mode must be one of sum, mean, got None"),
        ({"mode": "sum", "kind": "c"}, "kind must be one of a, b, None, got 'c'"),
    ],
)
def test_anything_else_is_refused_by_name(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_choices(build, {"size": 1, **given})
