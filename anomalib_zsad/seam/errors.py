"""Errors of the command `anomalib` that its user can put right, told in one message instead of a traceback."""

import os
import sys
from pathlib import Path
from types import TracebackType

from anomalib_zsad import __file__ as _package

VARIABLE = "ANOMALIB_ZSAD_TRACEBACK"
"""Set it in the environment to see tracebacks."""
_HOME = Path(_package).parent
_COMMAND = "anomalib.cli.cli"


def tell_errors_in_one_message() -> None:
    """Let the command end with the message alone of an error that this package raises; its exit status stays 1.

    Nothing changes outside of the command, for other errors, and where the variable is set.
    """
    if _COMMAND in sys.modules and sys.excepthook is not _tell:
        _others.append(sys.excepthook)
        sys.excepthook = _tell


_others = [sys.__excepthook__]


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if os.environ.get(VARIABLE) or not _is_for_the_user(error, trace):
        _others[-1](kind, error, trace)
        return
    print(f"anomalib: {error}\n({VARIABLE}=1 shows where this was raised)", file=sys.stderr)


def _is_for_the_user(error: BaseException, trace: TracebackType | None) -> bool:
    if isinstance(error, OSError) and error.filename is not None:
        return True
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    is_ours = trace is not None and _HOME in Path(trace.tb_frame.f_code.co_filename).parents
    return is_ours and isinstance(error, ValueError | OSError | ImportError | FloatingPointError)
