"""A model that needs no CLIP: the score of an image is its brightness."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.exported import KEY, ExportedRecord
from anomalib_zsad.line.scorer import Scorer

CALIBRATION = Calibration.of_scores(np.linspace(0.1, 0.5, 99), np.linspace(0.1, 0.5, 99), 0.05, "drawn")


def brightness(calibration=None, digest="b" * 12, spoilt=()):
    """Score by brightness, at a threshold of 0.5; images of the brightnesses in `spoilt` are an error."""

    def run(images):
        score = images.mean()
        if any(abs(score - each) < 1e-3 for each in spoilt):
            msg = "out of memory"
            raise RuntimeError(msg)
        maps = images.mean(1, keepdims=True)
        return {
            "pred_score": np.array([score]),
            "pred_label": score > 0.5,
            "anomaly_map": maps,
            "pred_mask": maps > 0.5,
        }

    return Scorer(run, "brightness", digest, calibration)


def brightness_graph(path, size=("height", "width")):
    """Write the same as a graph of ONNX, with the outputs and the metadata of an exported model."""
    images = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, *size])
    outputs = [
        helper.make_tensor_value_info("pred_score", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("pred_label", TensorProto.BOOL, ["batch"]),
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["batch", 1, *size]),
        helper.make_tensor_value_info("pred_mask", TensorProto.BOOL, ["batch", 1, *size]),
    ]
    constants = [
        helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("colours", TensorProto.INT64, [1], [1]),
        helper.make_tensor("others", TensorProto.INT64, [3], [1, 2, 3]),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["input", "colours"], ["anomaly_map"], keepdims=1),
        helper.make_node("ReduceMean", ["input", "others"], ["pred_score"], keepdims=0),
        helper.make_node("Greater", ["pred_score", "half"], ["pred_label"]),
        helper.make_node("Greater", ["anomaly_map", "half"], ["pred_mask"]),
    ]
    graph = helper.make_graph(nodes, "brightness", [images], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    record = {"method": "Brightness", "version": "0", "settings": {}, "trained_on": [], "thresholds": {}}
    model.metadata_props.add(key=KEY, value=ExportedRecord(**record, calibration=CALIBRATION).to_text())
    onnx.save(model, path)
    return path
