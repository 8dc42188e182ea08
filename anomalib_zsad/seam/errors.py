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
    told = _for_the_user(error, trace)
    if os.environ.get(VARIABLE) or told is None:
        _others[-1](kind, error, trace)
        return
    print(f"anomalib: {told}\n({VARIABLE}=1 shows where this was raised)", file=sys.stderr)


def _for_the_user(error: BaseException, trace: TracebackType | None) -> BaseException | None:
    """Find the error that the user can put right: this one, or that of a constructor which jsonargparse called."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if isinstance(error, OSError) and error.filename is not None:
        return error
    if trace is None:
        return None
    code = trace.tb_frame.f_code
    if code.co_name == "raise_union_unexpected_value":
        wrapped = trace.tb_frame.f_locals.get("exceptions", ())
        found = (_for_the_user(each, each.__traceback__) for each in wrapped)
        return next((each for each in found if each is not None), None)
    is_ours = _HOME in Path(code.co_filename).parents
    return error if is_ours and isinstance(error, ValueError | OSError | ImportError | FloatingPointError) else None
