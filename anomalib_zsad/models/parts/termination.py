"""What a process does that is asked to end."""

import signal
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

_STATUS = 128 + signal.SIGTERM
"""What a shell reports of a process that a SIGTERM ended."""


class Termination(Callback):
    """Ends a run that received SIGTERM with the status of one that did: Lightning's exception has that of success."""

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Correct the status."""
        if isinstance(exception, SIGTERMException):
            exception.code = _STATUS

    def on_predict_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """End predicting, as Lightning ends training and testing."""
        if trainer.received_sigterm:
            raise SIGTERMException
