"""The console script `anomalib-zsad`. Whatever loads torch is imported by the command itself."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import anomalib_zsad.commands  # noqa: F401  # they register themselves
from anomalib_zsad._version import __version__
from anomalib_zsad.commands.typed import COMMANDS, build_parser, parsed_call


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; those of the process by default.

    Returns:
        The exit status: 2 for what the user can put right, reported in one line.
    """
    command, given = parse(arguments)
    with warnings.catch_warnings():
        # The user can do nothing about the warnings that timm, anomalib and Lightning issue.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(timm|anomalib|lightning)\.")
        try:
            return COMMANDS[command].function(**given)
        except (OSError, ValueError) as error:
            print("anomalib-zsad:", *str(error).splitlines(), file=sys.stderr)
            return 2


def parse(arguments: Sequence[str] | None = None) -> tuple[str, dict[str, Any]]:
    """Read a command line.

    Args:
        arguments: As for `main`.

    Returns:
        The words of the command, and the arguments of its function.
    """
    parser = build_parser("anomalib-zsad", "Zero-shot anomaly detection with CLIP.", __version__)
    return parsed_call(parser.parse_args(None if arguments is None else list(arguments)))
