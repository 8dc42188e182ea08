from pathlib import Path

from anomalib_zsad.evaluation.markdown import markdown_table, write_markdown


def test_cells_end_at_no_bar_and_steer_no_terminal() -> None:
    table = markdown_table(["model", "AUROC"], [["a|b", "91.0"], ["c\x1b[2J\n", "-"]])
    assert table.splitlines() == [
        "| model | AUROC |",
        "| --- | --- |",
        "| a\\|b | 91.0 |",
        "| c\\x1b[2J\\n | - |",
    ]


def test_blocks_are_a_blank_line_apart(tmp_path: Path) -> None:
    write_markdown(tmp_path / "new" / "page.md", "## Title", "Words ± 1.")
    assert (tmp_path / "new" / "page.md").read_text(encoding="utf-8") == "## Title\n\nWords ± 1.\n"
