"""Exit status and end of a run that receives SIGTERM."""

import signal
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

_STATUS = 128 + signal.SIGTERM
"""The exit status that a shell reports for a process ended by SIGTERM."""


class Termination(Callback):
    """Makes a run that receives SIGTERM end with its exit status: Lightning's exception has that of success."""

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Correct the status."""
        if isinstance(exception, SIGTERMException):
            exception.code = _STATUS

    def on_predict_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """End the prediction, as Lightning ends training and testing."""
        if trainer.received_sigterm:
            raise SIGTERMException
