"""Datamodules with which a cell reads the images that the benchmark compares."""

from typing import Any

from anomalib.data import AnomalibDataModule

from anomalib_zsad.benchmark.grid import Cell
from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.paths import path_component


class OneCategory(AllCategories):
    """One category for anomalib's own models: its normal training images, and the test images of all other models."""

    def __init__(self, target: AnomalibDataModule, cell: Cell, **plumbing: Any) -> None:
        super().__init__(target, [str(cell.category)], seed=cell.seed, **plumbing)
        self.category = path_component(str(cell.category))  # the engine makes a folder of it

    def read_splits(self, stage: str | None = None) -> None:
        """Read the images, and choose some normal ones for validation."""
        super().read_splits(stage)
        # Some thirty: EfficientAd scales its maps with validation images, and no test image may decide anything.
        count = len(self.train_data)
        self.val_data = self.train_data.subsample(range(0, count, max(1, count // 32)))

    def val_dataloader(self) -> Any:
        """Offer some of the training images."""
        return AnomalibDataModule.val_dataloader(self)


def as_auxiliary(datamodule: AnomalibDataModule, plumbing: dict[str, Any]) -> Auxiliary:
    """Make a datamodule the auxiliary dataset, with these batch sizes and workers."""
    if not isinstance(datamodule, Auxiliary):
        return Auxiliary(datamodule, **plumbing)
    for name, value in plumbing.items():
        setattr(datamodule, name, value)
    return datamodule
