"""Names and texts from outside, where they are printed or written into tables."""

import unicodedata

import pandas as pd
from rich.text import Text

_STEERING = {"Cc", "Cs", "Zl", "Zp"}
"""Control characters, bytes that are no UTF-8, and ends of lines, as Unicode classes them."""

_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORMULAS = ("=", "+", "-", "@")


def printable(text: object) -> str:
    """Write out, as Python does, what would steer a terminal or cannot be encoded."""
    plain = str(text)
    return plain if plain.isprintable() else "".join(_written_out(sign) for sign in plain)


def shown(text: object) -> Text:
    """Convert to a text of rich without markup: `[/x]` stays `[/x]`."""
    return Text(printable(text))


def cell(text: str) -> str:
    """Prepare a text for a table in a file: an apostrophe precedes what a spreadsheet would take for a formula."""
    return f"'{printable(text)}" if text.startswith(_FORMULAS) else printable(text)


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Copy a table with `cell` applied to its texts."""
    made = table.copy()
    for name in made.columns[[not pd.api.types.is_numeric_dtype(dtype) for dtype in made.dtypes]]:
        made[name] = [cell(value) if isinstance(value, str) else value for value in made[name]]
    return made


def _written_out(sign: str) -> str:
    steers = unicodedata.category(sign) in _STEERING or sign in _DIRECTIONS
    return sign.encode("unicode_escape").decode() if steers else sign
