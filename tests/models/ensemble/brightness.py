"""A detector whose scores can be worked out by hand."""

from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import Tensor, nn
from torchvision.transforms.v2 import Resize


class BrightnessModel(nn.Module):
    def __init__(self, gain: float, offset: float, gives: str) -> None:
        super().__init__()
        self.gain, self.offset, self.gives = gain, offset, gives

    def forward(self, images: Tensor) -> InferenceBatch:
        maps = images.mean(1) * self.gain + self.offset
        score = maps.mean((-2, -1))
        return InferenceBatch(
            pred_score=None if self.gives == "maps" else score, anomaly_map=None if self.gives == "scores" else maps
        )


class Brightness(AnomalibModule):
    """The bright is anomalous, in a unit of its own."""

    def __init__(
        self, gain: float = 1.0, offset: float = 0.0, side: int = 8, gives: str = "both", **components: Any
    ) -> None:
        super().__init__(**{"pre_processor": PreProcessor(Resize((side, side), antialias=True)), **components})
        self.model = BrightnessModel(gain, offset, gives)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        return {}

    @property
    def learning_type(self) -> LearningType:
        return LearningType.ONE_CLASS


def pictures(count: int = 6, size: tuple[int, int] = (20, 30)) -> Tensor:
    """Noise from dark to bright."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, *size, generator=generator) * torch.linspace(0.1, 1, count)[:, None, None, None]
