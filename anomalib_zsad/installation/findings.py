"""A page of findings as plain text."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from anomalib_zsad.printing import printable

State = Literal["ok", "absent", "fault"]

_MARKS: dict[State, str] = {"ok": " ", "absent": "-", "fault": "!"}
_INDENT = 2
_NARROWEST = 20  # columns of text: narrower terminals break the lines themselves


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    Args:
        name: What it is.
        text: What was found, and what to do about it.
        state: "absent" for what is not here and is needed for some things only; "fault" for what is wrong.
    """

    name: str
    text: str
    state: State = "ok"


@dataclass(frozen=True)
class Section:
    """Findings of a kind."""

    title: str
    findings: Sequence[Finding] = field(default_factory=list)


def as_text(
    sections: Sequence[Section],
    width: int | None = None,
) -> str:
    """Write sections below one another, names in a column, with "!" before faults and "-" before what is absent.

    Args:
        sections: Those without findings are left out.
        width: Columns of the terminal; None leaves every finding on one line, for files and pipes.
    """
    names = [finding.name for section in sections for finding in section.findings]
    column = max(map(len, names), default=0)
    blocks = [[section.title, *_lines(section, column, width)] for section in sections if section.findings]
    return "\n\n".join("\n".join(block) for block in blocks)


def _lines(section: Section, column: int, width: int | None) -> list[str]:
    lines = []
    for finding in section.findings:
        head = f"{_MARKS[finding.state]:<{_INDENT}}{finding.name:<{column}}  "
        text = printable(finding.text)
        if width is None or width - len(head) < _NARROWEST:
            lines.append(head + text)
            continue
        lines += textwrap.wrap(
            text,
            width,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
