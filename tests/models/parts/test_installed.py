"""Packages that only some uses need."""

import pytest

from anomalib_zsad.models.parts import installed
from anomalib_zsad.models.parts.installed import expect_installed

ADVICE = r"pip install 'anomalib-zsad\[export\]'"


def test_what_can_be_imported_passes():
    expect_installed("This", "json", "pathlib")


def test_all_missing_packages_are_named():
    with pytest.raises(ModuleNotFoundError, match=f"^This needs no_such_one and no_other: {ADVICE}$") as caught:
        expect_installed("This", "json", "no_such_one", "no_other")
    assert caught.value.name == "no_such_one"


def test_an_installation_that_does_not_work_is_named_with_its_reason(monkeypatch):
    def broken(name):
        msg = "libopenvino.so: no such file"
        raise ImportError(msg)

    monkeypatch.setattr(installed, "import_module", broken)
    with pytest.raises(ImportError, match=rf"^This needs json, whose .* \(libopenvino.so: no such file\): {ADVICE}$"):
        expect_installed("This", "json")
