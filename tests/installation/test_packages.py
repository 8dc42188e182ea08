from pathlib import Path

import pytest

from anomalib_zsad.installation.packages import Package, extras, required


@pytest.fixture(autouse=True)
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some that are installed."""

    def install(name: str, version: str, *lines: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        text = [f"Name: {name}", f"Version: {version}", *lines]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *text]) + "\n")

    needs = [
        "alpha>=2,<3",
        'beta[fast]>=1; python_version >= "3"',
        'gamma; python_version < "3"',
        'delta>=1; extra == "x"',
    ]
    needs += ['The-Product[x]; extra == "all"', 'epsilon; extra == "all"']
    provided = [f"Provides-Extra: {extra}" for extra in ("x", "all")]
    install("the-product", "1.0", *provided, *(f"Requires-Dist: {need}" for need in needs))
    install("alpha", "3.0")
    install("beta", "1.2.0rc1")
    install("epsilon", "0.1")
    monkeypatch.syspath_prepend(tmp_path)


def test_what_is_always_needed_is_listed_with_what_is_here() -> None:
    alpha, beta = required(distribution="the-product")
    assert alpha == Package("alpha", "<3,>=2", "3.0")
    assert (alpha.fits, str(alpha)) == (False, "alpha 3.0, which is not <3,>=2")
    assert (beta.fits, str(beta)) == (True, "beta 1.2.0rc1")


def test_an_extra_brings_those_that_it_includes() -> None:
    found = required("all", "the-product")
    assert [str(each) for each in found] == ["delta is missing", "epsilon 0.1"]
    assert [each.fits for each in found] == [False, True]
    assert required("unknown", "the-product") == []
    assert extras("the-product") == ["x", "all"]


def test_a_distribution_that_is_not_installed_asks_for_nothing() -> None:
    assert required(distribution="nowhere-to-be-found") == []
    assert extras("nowhere-to-be-found") == []
