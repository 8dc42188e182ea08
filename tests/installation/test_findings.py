from anomalib_zsad.installation.findings import Finding, Section, as_text

LONG = "at /a/folder/whose-name-is-longer-than-a-line, and some more words that need a second line"
SECTIONS = [
    Section("First", [Finding("one", "here"), Finding("two", LONG, "absent")]),
    Section("Empty"),
    Section("Last", [Finding("three", "wrong\x1b[31m", "fault")]),
]


def test_in_a_file_every_finding_is_one_line_behind_its_mark() -> None:
    assert as_text(SECTIONS).split("\n") == [
        "First",
        "  one    here",
        f"- two    {LONG}",
        "",
        "Last",
        "! three  wrong\\x1b[31m",
    ]


def test_in_a_terminal_lines_are_broken_below_their_text_but_no_path_is() -> None:
    lines = as_text(SECTIONS, width=42).split("\n")
    assert all(len(line) <= 42 or "/a/folder/whose-name-is-longer-than-a-line," in line for line in lines)
    second = lines.index("- two    at") + 1
    assert lines[second].startswith("         /a/folder/whose-name-is-longer-than-a-line")
    joined = " ".join(line.strip() for line in lines[second - 1 : lines.index("", second)])
    assert joined == f"- two    {LONG}"
    assert as_text(SECTIONS, width=10) == as_text(SECTIONS)
