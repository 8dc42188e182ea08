"""Pictures are optional: an error in drawing is logged as a warning, and the run continues."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from anomalib_zsad.printing import printable

logger = logging.getLogger(__name__)


@contextmanager
def extra(what: object) -> Iterator[None]:
    """Warn where the block fails, whatever the reason.

    Args:
        what: What it draws, for the warning.
    """
    try:
        yield
    except Exception as error:
        logger.warning("No picture of %s: %s. The run continues without it.", printable(what), reason_of(error))


def reason_of(error: Exception) -> str:
    """Return why something failed, as the middle of a sentence."""
    return printable(error).rstrip(".") or type(error).__name__
