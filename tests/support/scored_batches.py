"""Batches as a model returns them, run through a real trainer without a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from anomalib_zsad.data.item import CategoryBatch


class ScoredBatches(Dataset):
    """Ready batches, and the table of samples that anomalib's datasets have."""

    def __init__(self, batches: Sequence[CategoryBatch]) -> None:
        self.batches = batches
        names = [name for batch in batches for name in getattr(batch, "category", None) or []]
        self.samples = pd.DataFrame({"category": names})

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> CategoryBatch:
        return self.batches[index]


class Passing(LightningModule):
    """A model that has computed its scores before."""

    def __init__(self, evaluator: Any = None, post_processor: Any = None, trained_on: Sequence[str] = ()) -> None:
        super().__init__()
        self.evaluator = evaluator
        self.post_processor = post_processor
        self.trained_on = list(trained_on)

    def test_step(self, batch: CategoryBatch) -> CategoryBatch:
        return batch

    validation_step = predict_step = test_step


class Scored(LightningDataModule):
    """All stages read the same batches."""

    category = None
    target: "Scored | None" = None

    def __init__(self, batches: Sequence[CategoryBatch], name: str = "Anything") -> None:
        super().__init__()
        self.name = name
        self.batches = ScoredBatches(batches)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = predict_dataloader = test_dataloader


def scored_batch(
    scores: Sequence[float],
    labels: Sequence[int] | None,
    maps: NDArray[np.float32] | None = None,  # (B, H, W)
    masks: NDArray[np.bool_] | None = None,  # (B, H, W)
    category: str | Sequence[str] = "cable",
    folder: str = "data",
) -> CategoryBatch:
    size = len(scores)
    names = [category] * size if isinstance(category, str) else list(category)
    return CategoryBatch(
        image=torch.zeros(size, 3, 8, 8),
        image_path=[f"{folder}/{name}/{i}.png" for i, name in enumerate(names)],
        gt_label=None if labels is None else torch.tensor(labels),
        gt_mask=None if masks is None else torch.from_numpy(masks),
        pred_score=torch.tensor(scores),
        anomaly_map=None if maps is None else torch.from_numpy(maps)[:, None],
        category=names,
    )
