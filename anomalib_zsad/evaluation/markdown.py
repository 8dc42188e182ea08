"""Markdown for people: tables and pages that are written whole."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.printing import printable


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table; a bar in a cell is escaped, since it would end the cell."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def write_markdown(path: Path, *blocks: str) -> None:
    """Write blocks of Markdown (headings, paragraphs, tables) with a blank line between them."""
    with whole_file(path) as temporary:
        temporary.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
