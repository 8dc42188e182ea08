"""One tested image with its raw scores, checked and on the CPU."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_zsad.evaluation.decisions import DECIDED


@dataclass(frozen=True)
class ScoredImage:
    """The scores of an image, its label and its mask.

    Args:
        path: The image's file.
        score: The raw image score, in [0, 1].
        label: Whether it is anomalous, where that is known.
        anomaly_map: Raw pixel scores, in [0, 1].
        mask: True where the pixel is anomalous.
        called_anomalous: The decision at the fitted threshold, where there is one.
        called_mask: That of every pixel.

    Raises:
        ValueError: A score is no probability, or the mask has another size than the anomaly map.
    """

    path: str
    score: float
    label: bool | None
    anomaly_map: NDArray[np.float32] | None  # (H, W)
    mask: NDArray[np.bool_] | None  # (H, W)
    called_anomalous: bool | None = None
    called_mask: NDArray[np.bool_] | None = None  # (H, W)

    def __post_init__(self) -> None:
        for what, values in (("image score", np.asarray(self.score)), ("anomaly map", self.anomaly_map)):
            # Comparisons with nan are false.
            if values is not None and not (values.min() >= 0 and values.max() <= 1):
                found = f"from {values.min():g} to {values.max():g}"
                msg = f"{self.path}: expected probabilities from 0 to 1 as {what}, got {found}."
                raise ValueError(msg)
        if self.anomaly_map is not None and self.mask is not None and self.anomaly_map.shape != self.mask.shape:
            msg = f"{self.path}: expected a mask of the anomaly map's {self.anomaly_map.shape}, got {self.mask.shape}."
            raise ValueError(msg)


def scored_images(batch: ImageBatch, decided: Mapping[str, Tensor] | None = None) -> Iterator[ScoredImage]:
    """Yield the images of a batch that the model has scored.

    Args:
        batch: With raw scores.
        decided: Its decisions, as `decisions.decide` makes them.
    """
    decided = decided or {}
    paths = batch.image_path or ["image without a path"] * len(batch)
    labels = [None] * len(batch) if batch.gt_label is None else batch.gt_label.tolist()
    scores = _on_cpu(batch.pred_score, torch.float32)
    maps = _on_cpu(batch.anomaly_map, torch.float32)
    masks = _on_cpu(batch.gt_mask, torch.bool)
    called, called_masks = (_on_cpu(decided.get(name), torch.bool) for name in DECIDED)
    for i, path in enumerate(paths):
        yield ScoredImage(
            path=path,
            score=scores[i].item(),
            label=labels[i],
            anomaly_map=_plane(maps, i),
            mask=_plane(masks, i),
            called_anomalous=None if called is None else bool(called[i]),
            called_mask=_plane(called_masks, i),
        )


def _plane(values: Any, index: int) -> Any:  # (B, H, W) or (B, 1, H, W) -> (H, W)
    return None if values is None else values[index].reshape(values.shape[-2:])


def _on_cpu(values: Tensor | None, dtype: torch.dtype) -> Any:
    return None if values is None else values.detach().to("cpu", dtype).numpy()
