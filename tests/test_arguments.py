"""Arguments are checked against the types and ranges of a signature, with one message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from anomalib_zsad import arguments as arg
from anomalib_zsad.arguments import checked

NAN, INFINITY = float("nan"), float("inf")


@checked
def build(
    kind: Literal["one", "two"] = "one",
    rate: arg.Rate | None = None,
    width: arg.Count = 1,
    sides: arg.OddSides = (1, 3),
    image_size: arg.ImageSize | None = None,
    betas: arg.Betas = (0.5, 0.9),
    templates: arg.Templates = ("a {}",),
    flag: bool = True,
    names: dict[str, str] | str | Path | None = None,
    files: Sequence[str | Path] = (),
    **others: Any,
) -> dict[str, Any]:
    return {**locals(), **others}


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "two", "rate": None, "flag": False},
        {"rate": 1, "width": 1024, "sides": [5]},
        {"image_size": 518, "betas": (0.5, 0.999)},
        {"image_size": (518, 336), "names": {"a": "b"}, "files": [Path("a"), "b"]},
        {"names": Path("names.yaml"), "other": NAN},
    ],
)
def test_what_fits_passes(given: dict[str, Any]) -> None:
    assert build(**given).items() >= given.items()


def test_whole_numbers_and_lists_become_what_the_signature_says() -> None:
    built = build(rate=1, image_size=[518, 336], betas=[0, 0.5], sides=[1])
    assert [built[name] for name in ("rate", "image_size", "betas", "sides")] == [1.0, (518, 336), (0.0, 0.5), [1]]
    assert [type(built["rate"]), type(built["betas"][0])] == [float, float]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "three"}, "kind must be one of one, two, got 'three'"),
        ({"rate": 0.0}, "rate must be a number in (0, 1] or None, got 0.0"),
        ({"rate": NAN}, "rate must be a number in (0, 1] or None, got nan"),
        ({"rate": INFINITY}, "rate must be a number in (0, 1] or None, got inf"),
        ({"rate": "1e-4"}, "rate must be a number in (0, 1] or None, got '1e-4'"),
        ({"rate": True}, "rate must be a number in (0, 1] or None, got True"),
        ({"width": -1}, "width must be an integer in [1, 1024], got -1"),
        ({"width": 2.0}, "width must be an integer in [1, 1024], got 2.0"),
        ({"width": True}, "width must be an integer in [1, 1024], got True"),
        ({"width": None}, "width must be an integer in [1, 1024], got None"),
        (
            {"sides": [1, 4]},
            "sides must be a list that is not empty, each an integer in [1, 1023] that is odd, got [1, 4]",
        ),
        ({"sides": ()}, "sides must be a list that is not empty, each an integer in [1, 1023] that is odd, got ()"),
        (
            {"image_size": (1, 2, 3)},
            "image_size must be an integer in [1, 8192] or a pair, each an integer in [1, 8192] or None, got (1, 2, 3)",
        ),
        ({"betas": (0.5, 1.0)}, "betas must be a pair, each a number in [0, 1), got (0.5, 1.0)"),
        ({"templates": ["a"]}, "templates must be a list that is not empty, each a text with one {}, got ['a']"),
        (
            {"templates": ["{0}{}"]},
            "templates must be a list that is not empty, each a text with one {}, got ['{0}{}']",
        ),
        ({"flag": 1}, "flag must be True or False, got 1"),
        ({"names": {1: "a"}}, "names must be a mapping or a text or a path or None, got {1: 'a'}"),
        ({"files": "abc"}, "files must be a list, each a text or a path, got 'abc'"),
    ],
)
def test_what_does_not_fit_gives_argument_range_and_value(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        build(**given)
    assert str(caught.value) == expected


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        build(files="a" * 1000)
    assert len(str(caught.value)) < 300
