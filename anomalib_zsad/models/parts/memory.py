"""Memory bank of normal patch features, for few-shot detection."""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import torch
from anomalib.models.components import KCenterGreedy
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNK = 2048
"""Patches of the memory that are compared at a time, which bounds the similarities in memory to (B, N, 2048)."""


class MemoryBank(nn.Module):
    """Unit-length features of the patches of normal references, one set for every layer and scale.

    The anomaly score of a patch is the distance to its nearest neighbour in the memory: (1 - cos) / 2, in [0, 1].

    Source: AF-CLIP eq. 16-17.
    """

    features: Tensor  # (K, M, C), empty without references

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("features", torch.empty(0, 0, 0))
        self.register_load_state_dict_pre_hook(_make_room)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no features."""
        return self.features.numel() == 0

    def fill(
        self,
        references: Iterable[Tensor],  # of (K, N, C)
        coreset_ratio: float | None = None,
    ) -> None:
        """Replace the features.

        Args:
            references: Features of the patches of each reference, not normalised; consumed one by one.
            coreset_ratio: The share of the patches to keep, in (0, 1), chosen by anomalib's greedy k-center sampler.
                None keeps all.
        """
        features = reduce(lambda held, new: torch.cat([held, new], dim=1), (F.normalize(r, dim=-1) for r in references))
        if coreset_ratio is not None:
            features = torch.stack([_coreset(each, coreset_ratio) for each in features])
        self.features = features

    def forward(
        self,
        features: Tensor,  # (K, B, N, C)
    ) -> Tensor:  # (B, N) in [0, 1]
        """Compute the distance of every patch to its nearest neighbour, averaged over the K sets."""
        # By index: in ONNX, onnxscript 0.5 cannot iterate over a single set.
        nearest = [self._nearest(features[k], self.features[k]) for k in range(len(self.features))]
        return ((1 - torch.stack(nearest)) / 2).clamp(0, 1).mean(0)

    @staticmethod
    def _nearest(
        features: Tensor,  # (B, N, C)
        bank: Tensor,  # (M, C)
    ) -> Tensor:  # (B, N)
        features = F.normalize(features, dim=-1)
        return torch.stack([(features @ part.T).amax(-1) for part in bank.split(_CHUNK)]).amax(0)


def _make_room(memory: MemoryBank, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Resize the buffer to that of the state dict that is loaded."""
    if (saved := state.get(f"{prefix}features")) is not None:
        memory.features = torch.empty_like(saved, device=memory.features.device)


def _coreset(
    features: Tensor,  # (M, C)
    ratio: float,
) -> Tensor:
    return features[KCenterGreedy(features, ratio).select_coreset_idxs()]
