"""anomalib's command logs every line twice, since it gives the root logger two handlers, and repeats a warning."""

import logging
import sys
import warnings

from rich.logging import RichHandler

_COMMAND = "anomalib.cli.cli"


def log_lines_once() -> None:
    """Leave the command one handler: rich's on a terminal, the plain one, which breaks no line, elsewhere.

    Lightning makes objects of a class that torch calls deprecated; the user can do nothing about it.
    """
    warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning, module=r"lightning\.")
    root = logging.getLogger()
    plain = [each for each in root.handlers if type(each) is logging.StreamHandler]
    rich = [each for each in root.handlers if isinstance(each, RichHandler)]
    if _COMMAND in sys.modules and plain and rich:
        for handler in plain if rich[0].console.is_terminal else rich:
            root.removeHandler(handler)
