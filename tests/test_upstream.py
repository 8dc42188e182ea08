"""The programs in docs/upstream/ show the faults of anomalib that their pages describe."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs/upstream").glob("*.md"))
RUN = """
import contextlib, io, json, sys
outputs = {}
for name, program in json.load(sys.stdin).items():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    outputs[name] = printed.getvalue()
with open("outputs.json", "w") as file:
    json.dump(outputs, file)
"""


def block(page: Path, language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return text


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, str]:
    """What the programs print in a process that does not import this package, which corrects some of the faults."""
    folder = tmp_path_factory.mktemp("upstream")
    programs = json.dumps({page.name: block(page, "python") for page in PAGES})
    run = subprocess.run([sys.executable, "-c", RUN], input=programs, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((folder / "outputs.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_fault_is_there(page, outputs):
    printed = outputs[page.name]  # the benchmark's logs of anomalib go to the same stream
    assert printed.endswith(block(page, "text")), f"anomalib has changed: see {page.name}, and what we do about it"
