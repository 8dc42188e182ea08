from pathlib import Path

import yaml

from anomalib_zsad import __version__


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"]
