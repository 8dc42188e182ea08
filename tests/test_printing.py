import pandas as pd
import pytest
from rich.console import Console

from anomalib_zsad.printing import cell, cells, printable, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b/\u00e4 \u4e2d\u3000\u6587.png", "a b/\u00e4 \u4e2d\u3000\u6587.png"),
        ("\x1b[2J\n\r", "\\x1b[2J\\n\\r"),
        ("\udce4.png", "\\udce4.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_what_steers_a_terminal_or_is_no_utf_8_is_written_out(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(text).encode()


def test_markup_is_shown_as_it_is() -> None:
    console = Console(width=40)
    with console.capture() as capture:
        console.print(shown("[/x] [red]good"))
    assert capture.get() == "[/x] [red]good\n"


def test_no_cell_is_a_formula_and_numbers_stay_numbers() -> None:
    assert [cell(text) for text in ("=1+1", "-x", "@a", "a=b", "")] == ["'=1+1", "'-x", "'@a", "a=b", ""]
    table = pd.DataFrame({"name": ["=A1", None], "value": [-1.5, 2.0], "note": pd.Series(["+", "a"], dtype="string")})
    assert cells(table).to_csv(index=False).splitlines() == ["name,value,note", "'=A1,-1.5,'+", ",2.0,a"]
