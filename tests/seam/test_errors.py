"""The command `anomalib` ends with one message where its user can put the error right."""

import sys

import pytest

from anomalib_zsad import AFClip
from anomalib_zsad.seam import errors


@pytest.fixture
def others(monkeypatch) -> list[BaseException]:
    """What the hook that was there before is given."""
    seen: list[BaseException] = []
    monkeypatch.setitem(sys.modules, "anomalib.cli.cli", sys)
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: seen.append(error))
    monkeypatch.setattr(errors, "_others", [])
    monkeypatch.delenv(errors.VARIABLE, raising=False)
    errors.tell_errors_in_one_message()
    return seen


def end_with(call) -> None:
    try:
        call()
    except Exception:
        sys.excepthook(*sys.exc_info())


def test_an_error_of_ours_is_one_message(others, capsys):
    end_with(lambda: AFClip(blur_sigma=-1))
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "anomalib: blur_sigma must be a number in [0, 1000], got -1"
    assert len(told) == 2
    assert not others


def test_a_file_that_is_not_there_is_one_message(others, capsys, tmp_path):
    end_with((tmp_path / "gone").read_text)
    assert str(tmp_path / "gone") in capsys.readouterr().err
    assert not others


def test_other_errors_keep_their_traceback(others, capsys):
    end_with(lambda: int("x"))
    assert not capsys.readouterr().err
    assert len(others) == 1


def test_tracebacks_can_be_asked_for(others, capsys, monkeypatch):
    monkeypatch.setenv(errors.VARIABLE, "1")
    end_with(lambda: AFClip(blur_sigma=-1))
    assert not capsys.readouterr().err
    assert len(others) == 1


def test_nothing_changes_outside_of_the_command(monkeypatch):
    monkeypatch.delitem(sys.modules, "anomalib.cli.cli", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    errors.tell_errors_in_one_message()
    assert sys.excepthook is sys.__excepthook__
