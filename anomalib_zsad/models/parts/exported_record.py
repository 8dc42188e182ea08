"""The record of a model in the graph that was exported from it."""

from collections.abc import Mapping
from typing import Any

from anomalib_zsad._version import __version__
from anomalib_zsad.evaluation.exported import KEY, ExportedRecord, after_post_processing
from anomalib_zsad.evaluation.post_processor import thresholds_of
from anomalib_zsad.models.parts.settings import settings_of, without_folder


def describe_graph(
    graph: Any,  # onnx.ModelProto
    module: Any,  # a Detector
) -> None:
    """Write the record of a model into the metadata of its graph; OpenVINO's conversion keeps it."""
    graph.metadata_props.add(key=KEY, value=exported_record(module).to_text())


def exported_record(
    module: Any,  # a Detector
) -> ExportedRecord:
    """Make the record of a model, whose calibration has the scores that its graph gives."""
    post_processor = module.post_processor
    thresholds = thresholds_of(post_processor)
    return ExportedRecord(
        method=type(module).__name__,
        version=__version__,
        settings=_without_folders(settings_of(module)),
        trained_on=module.trained_on,
        thresholds={
            **{level: thresholds.get(level) for level in ("image", "pixel")},
            "fitted_on": list(module.thresholds_fitted_on),
        },
        calibration=after_post_processing(getattr(post_processor, "calibration", None), post_processor),
    )


def _without_folders(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce paths to the names of files, and members of an ensemble to their methods."""
    kept = without_folder(settings)
    if kept.get("models"):
        kept["models"] = [each["model"] for each in kept["models"]]
    return kept
