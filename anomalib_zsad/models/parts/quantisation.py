"""Eight-bit OpenVINO graphs: the blocks of the frozen backbone are quantised, nothing else.

The blocks are nearly all of the arithmetic. The other operations (resizing, cosines, smoothing) are cheap, and eight
bits there would change the scores visibly.
"""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from anomalib.data import AnomalibDataModule
from torch import Tensor
from torch.utils.data import Subset

from anomalib_zsad.data.adopting import adopt_splits
from anomalib_zsad.functional.resizing import resize_bicubic

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 300
"""The number of images that NNCF uses and recommends."""


def compress(
    model: Any,  # openvino.Model
    weights: Iterable[Tensor],
) -> Any:
    """Store the backbone's weights in eight bits; the arithmetic stays in floats."""
    import nncf

    return nncf.compress_weights(model, ignored_scope=_all_but(model, weights))


def quantise(
    model: Any,  # openvino.Model
    weights: Iterable[Tensor],
    datamodule: AnomalibDataModule,
) -> Any:
    """Quantise the weights and activations of the backbone's blocks to eight bits.

    Args:
        model: The graph.
        weights: The backbone's weights, by which its blocks are found in the graph.
        datamodule: Its validation images, or its training images where there are none, set the ranges.
    """
    import nncf

    images = _images(datamodule)
    return nncf.quantize(
        model,
        nncf.Dataset(images, partial(_feed, size=_fixed_size(model))),
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=_all_but(model, weights),
        subset_size=len(images),
    )


def _all_but(model: Any, weights: Iterable[Tensor]) -> Any:
    import nncf

    chosen = {_mark(weight.detach().float().cpu().numpy()) for weight in weights}
    operations = [node for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]
    others = [node.get_friendly_name() for node in operations if not _multiplies_by(node, chosen)]
    return nncf.IgnoredScope(names=others, validate=False)


def _multiplies_by(node: Any, chosen: set[tuple]) -> bool:
    if node.get_type_name() != "MatMul":
        return False
    factors = (value.get_source_output().get_node() for value in node.inputs())
    return any(factor.get_type_name() == "Constant" and _mark(factor.data) in chosen for factor in factors)


def _mark(
    weight: np.ndarray,  # (M, N)
) -> tuple:
    """Return a key of a matrix that transposing does not change: exporters do not keep names."""
    corners = (float(weight[0, 0]), float(weight[-1, -1])) if weight.ndim == 2 else ()
    return (*sorted(weight.shape), *corners)


def _images(datamodule: AnomalibDataModule) -> Subset:
    """Draw a random sample of the images: the first few hundred belong to a few categories."""
    datamodule.prepare_data()
    datamodule.setup("fit")
    adopt_splits(datamodule)
    data = datamodule.val_data if len(datamodule.val_data) else datamodule.train_data
    if len(data) < CALIBRATION_IMAGES:
        logger.warning("%d images are recommended for calibration, found %d.", CALIBRATION_IMAGES, len(data))
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return Subset(data, order[:CALIBRATION_IMAGES].tolist())


def _fixed_size(model: Any) -> tuple[int, int] | None:
    shape = model.input(0).partial_shape
    return (shape[2].get_length(), shape[3].get_length()) if shape[2].is_static else None


def _feed(item: Any, size: tuple[int, int] | None) -> np.ndarray:  # (1, 3, H, W) in [0, 1]
    image = item.image[None]
    return (image if size is None else resize_bicubic(image, size).clamp(0, 1)).numpy()
