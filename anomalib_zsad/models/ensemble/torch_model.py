"""The torch model of an ensemble: scores of its members, standardised and averaged."""

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple, cast

import torch
from anomalib.data import InferenceBatch
from anomalib.data.utils.tiler import Tiler
from anomalib.models import AnomalibModule
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.models.ensemble.scale import ScoreScale, sums_of, to_unit
from anomalib_zsad.models.parts.detector import Detector
from anomalib_zsad.models.parts.pre_processor import exactly
from anomalib_zsad.models.parts.validity import check_scores


class Raw(NamedTuple):
    """Scores and maps of a member, on its own scale."""

    score: Tensor  # (B,)
    maps: Tensor | None  # (B, 1, H, W)


class EnsembleModel(nn.Module):
    """Raw images in, scores in [0, 1] out.

    Member m has the score x_m; z_m is (x_m - mean_m) / deviation_m, u_m is (1 + z_m / (1 + |z_m|)) / 2, and the score
    is the weighted mean of u_m, for image scores and for pixels, each with their own statistics. Pixels are averaged
    over the members that have maps. Each member is bounded before the mean: one whose validation images score far below
    all others, such as images in its memory bank, would dominate otherwise.

    Args:
        members: Models, each with its pre-processor.
        weights: One for each member.
        map_size: Height and width of the maps in pixels.
    """

    def __init__(self, members: Sequence[AnomalibModule], weights: Sequence[float], map_size: tuple[int, int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = list(weights)
        self.map_size = map_size
        self.image_scale = ScoreScale(len(members))
        self.pixel_scale = ScoreScale(len(members))
        self.eval()

    def train(self, mode: bool = True) -> "EnsembleModel":  # noqa: ARG002
        """Stay in eval mode: members are trained already."""
        return super().train(mode=False)

    @property
    def tiler(self) -> Tiler | None:
        """How the members tile images, where they do it alike; anomalib's `TilerConfigurationCallback` sets it.

        Raises:
            ValueError: Where it is set: if a member is not of this package.
        """
        tilers = [getattr(each.model, "tiler", None) for each in self._members()]
        return tilers[0] if len(set(map(id, tilers))) == 1 else None

    @tiler.setter
    def tiler(self, tiler: Tiler | None) -> None:
        for member in self._members():
            if not isinstance(member, Detector):
                msg = (
                    f"tiler: expected members of this package, got {type(member).__name__}: tile it before its training"
                )
                raise ValueError(msg)
        for member in self._members():
            member.model.tiler = tiler

    def forward(
        self,
        images: Tensor,  # (B, 3, h, w) in [0, 1]
    ) -> InferenceBatch:
        """Score images of any size: `pred_score` (B,) and `anomaly_map` (B, 1, H, W), both in [0, 1]."""
        members = self._members()
        return self.combine([self._raw(each.model(exactly(each.pre_processor)(images))) for each in members])

    def raw_scores(
        self,
        batch: Any,  # of anomalib
    ) -> list[Raw]:
        """Compute every member's scores of a batch; members of this package get the whole batch, others its images."""
        results = []
        for member in self._members():
            own = copy(batch)
            own.image = exactly(member.pre_processor)(batch.image)
            found = member.predict_batch(own) if isinstance(member, Detector) else member.model(own.image)
            check_scores(found, batch, member=type(member).__name__)
            results.append(self._raw(found))
        return results

    def combine(self, results: Sequence[Raw]) -> InferenceBatch:
        """Average the standardised scores of the members."""
        score = self._average([each.score for each in results], self.image_scale)
        return InferenceBatch(
            pred_score=score, anomaly_map=self._average([each.maps for each in results], self.pixel_scale)
        )

    @staticmethod
    def sums(results: Sequence[Raw]) -> Tensor:  # (2, M, 3)
        """Sum the image scores and the pixels of every member, for `fit`."""
        return torch.stack([torch.stack([sums_of(values) for values in level]) for level in zip(*results, strict=True)])

    def fit(
        self,
        sums: Tensor,  # (2, M, 3)
    ) -> None:
        """Set the statistics of the members."""
        self.image_scale.fit(sums[0])
        self.pixel_scale.fit(sums[1])

    @property
    def is_fitted(self) -> bool:
        """Whether the statistics are known."""
        return len(self.members) > 0 and not bool(self.image_scale.mean.isnan().any())

    def fold_text(self) -> None:
        """Fold the text of the members of this package, for export."""
        for member in self._members():
            if isinstance(member, Detector):
                cast("Any", member.model).fold_text()

    def _members(self) -> list[Any]:  # of AnomalibModule
        return list(self.members)

    def _raw(self, result: Any) -> Raw:  # an InferenceBatch with scores, maps or both
        maps = result.anomaly_map
        score = maps.amax((-2, -1)) if result.pred_score is None else result.pred_score
        if maps is None:
            return Raw(score.flatten().float(), None)
        maps = (maps if maps.ndim == 4 else maps[:, None]).float()
        if tuple(maps.shape[-2:]) != self.map_size:
            maps = F.interpolate(maps, self.map_size, mode="bilinear", align_corners=False)
        return Raw(score.flatten().float(), maps)

    def _average(self, values: Sequence[Tensor | None], scale: ScoreScale) -> Tensor | None:
        given = [(index, value) for index, value in enumerate(values) if value is not None]
        weight = sum(self.weights[index] for index, _ in given)
        if not weight:
            return None
        terms = [to_unit(scale(value, index)) * (self.weights[index] / weight) for index, value in given]
        return torch.stack(terms).sum(0)
