"""anomalib's export: with a checkpoint of the model that it is given, and with a model's own compression."""

from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataModule
from anomalib.deploy import CompressionType
from anomalib.engine import Engine

_export = Engine.export


def export_the_given_model(
    kind: Any,  # a class
) -> None:
    """Let `Engine.export` load a checkpoint into the model it is given, with all that was chosen for it.

    anomalib builds another one of the checkpoint alone, which would be without references, thresholds and settings
    that the command names.

    Args:
        kind: Which models are meant; they have a method `load_checkpoint`.
    """

    @wraps(_export)
    def export(*arguments: Any, **options: Any) -> Path | None:
        call = signature(_export).bind(*arguments, **options)
        model, path = call.arguments["model"], call.arguments.get("ckpt_path")
        if path and isinstance(model, kind):
            model.load_checkpoint(path)
            call.arguments["ckpt_path"] = None
        return _export(*call.args, **call.kwargs)

    Engine.export = export  # type: ignore[method-assign]


class CompressesItself:
    """A model that makes its OpenVINO graphs smaller itself; it stands before `AnomalibModule` among the bases."""

    def compress(
        self,
        graph: Any,  # openvino.Model
        compression_type: CompressionType | None,
        datamodule: AnomalibDataModule | None,
    ) -> Any | None:
        """Make a graph smaller; None leaves it to anomalib."""
        raise NotImplementedError

    def _compress_ov_model(
        self,
        model: Any,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        *arguments: Any,
    ) -> Any:
        compressed = self.compress(model, compression_type, datamodule)
        if compressed is None:
            return super()._compress_ov_model(model, compression_type, datamodule, *arguments)  # type: ignore[misc]
        return compressed
