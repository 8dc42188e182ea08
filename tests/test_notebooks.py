"""Every notebook runs from top to bottom, and is committed without outputs."""

import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A new session of IPython in this process, in an empty folder; what it changes for all is as before."""
    level = logging.getLogger("anomalib").level
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr("IPython.core.history.HistoryAccessor.enabled", False)
    monkeypatch.chdir(tmp_path)
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()
    logging.getLogger("anomalib").setLevel(level)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_page_about_deployment_has_the_script_of_the_notebook() -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "02_deploy")
    magic = "%%writefile watch.py\n"
    (script,) = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.source.startswith(magic)]
    assert f"```python\n{script.removeprefix(magic)}\n```" in (path.parents[1] / "docs/deploy.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, shell: InteractiveShell) -> None:
    shown = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            result = shell.run_cell(cell.source)
            result.raise_error()
            shown.append(shell.display_formatter.format(result.result)[0])
    assert any("image/png" in formats for formats in shown)
