"""The record in the metadata of an exported graph: one entry, for those who decide with its scores."""

from typing import Any

import torch
from anomalib.data import InferenceBatch
from pydantic import BaseModel, ConfigDict, ValidationError

from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor

KEY = "anomalib_zsad"
"""The key of the entry: in `metadata_props` of ONNX, in `rt_info` of OpenVINO below "framework"."""


class ExportedRecord(BaseModel):
    """The model that a graph was exported of, as JSON in the metadata of the graph.

    ONNX Runtime returns it as `session.get_modelmeta().custom_metadata_map[KEY]`, OpenVINO as
    `Core().read_model(file).get_rt_info(["framework", KEY]).astype(str)`.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    method: str
    """The class of the model."""
    version: str
    """The version of this package."""
    settings: dict[str, Any]
    """The arguments that change a score, without folders of the machine that exported."""
    trained_on: list[str]
    """ "dataset/category" of the training data."""
    thresholds: dict[str, Any]
    """Raw "image" and "pixel" thresholds, null where they are not known, and what they were "fitted_on"."""
    calibration: Calibration | None = None
    """The scores of the calibration's normal images as the graph gives them (`pred_score` and the maximum of
    `anomaly_map`), not raw: p-values are computed of what comes out of the graph."""

    @classmethod
    def of_text(cls, text: str) -> "ExportedRecord":
        """Read the entry.

        Raises:
            ValueError: If it is none, or damaged.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = ".".join(map(str, fault["loc"])) or "it"
            msg = f"{KEY}: expected the metadata of a graph that this package exported, but {name}: {fault['msg']}"
            raise ValueError(msg) from None

    def to_text(self) -> str:
        """Write the entry."""
        return self.model_dump_json()


@torch.no_grad()
def after_post_processing(
    calibration: Calibration | None,
    post_processor: MonotonePostProcessor,
) -> Calibration | None:
    """Bring a calibration from raw scores to those that the post-processor gives; it keeps their order."""
    if calibration is None:
        return None
    images, maxima = map(torch.tensor, (calibration.image_scores, calibration.map_maxima))
    result = post_processor(InferenceBatch(pred_score=images, anomaly_map=maxima[:, None, None]))
    shown = {"image_scores": result.pred_score.flatten().tolist(), "map_maxima": result.anomaly_map.flatten().tolist()}
    return Calibration(**{**calibration.model_dump(), **shown})
