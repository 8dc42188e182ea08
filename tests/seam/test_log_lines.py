"""Lines of anomalib's command are logged once."""

import logging
import warnings

import pytest
import torch
from anomalib.cli import cli  # noqa: F401  # the command runs
from anomalib.loggers import configure_logger
from lightning.pytorch.utilities._pytree import _tree_flatten
from rich.console import Console
from rich.logging import RichHandler

from anomalib_zsad.seam.log_lines import log_lines_once


@pytest.fixture
def configured(monkeypatch) -> list[logging.Handler]:
    """The handlers of the root logger as the command makes them."""
    root, of_lightning = logging.getLogger(), logging.getLogger("lightning.pytorch")
    monkeypatch.setattr(of_lightning, "handlers", [])
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure_logger()
    return list(root.handlers)


def kept(handlers: list[logging.Handler]) -> list[type]:
    return [type(each) for each in handlers if each in logging.getLogger().handlers]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_one_handler_stays(configured, is_terminal):
    configured[1].console = Console(force_terminal=is_terminal)
    assert kept(configured) == [logging.StreamHandler, RichHandler]
    log_lines_once()
    assert kept(configured) == [RichHandler if is_terminal else logging.StreamHandler]


def test_a_single_handler_stays(configured):
    logging.getLogger().removeHandler(configured[1])
    log_lines_once()
    assert kept(configured) == [logging.StreamHandler]


def test_lightning_does_not_warn_in_each_epoch():
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        log_lines_once()
        _tree_flatten({"loss": torch.zeros(1)})
    assert not issued
