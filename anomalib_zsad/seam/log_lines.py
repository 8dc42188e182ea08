"""anomalib's command gives the root logger two handlers, so that every line is logged twice."""

import logging
import sys

from rich.logging import RichHandler

_COMMAND = "anomalib.cli.cli"


def log_lines_once() -> None:
    """Leave the command one handler: rich's on a terminal, the plain one, which breaks no line, elsewhere."""
    root = logging.getLogger()
    plain = [each for each in root.handlers if type(each) is logging.StreamHandler]
    rich = [each for each in root.handlers if isinstance(each, RichHandler)]
    if _COMMAND in sys.modules and plain and rich:
        for handler in plain if rich[0].console.is_terminal else rich:
            root.removeHandler(handler)
