"""Selected images of a detector: its best and its worst cases, and a random sample."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_zsad.evaluation.extra import extra
from anomalib_zsad.evaluation.scored_image import ScoredImage
from anomalib_zsad.evaluation.sheet import SIDE, grey_levels, picture_of

KINDS = ("best", "worst", "false alarms", "by chance")
"""Anomalous images whose maps agree best and worst with the ground truth, normal ones with the highest scores, and
anomalous ones that are chosen by their names, the same for every detector."""

BY_CHANCE = 6
_LEVELS, _TINY = 65535, 1e-30


@dataclass(frozen=True)
class Case:
    """One image with its result, small enough to keep.

    Args:
        category: Its category.
        name: The end of its path.
        score: The image score.
        agreement: How well the map separates the defect from the rest (`agreement_of`); None without a usable mask.
        image: The picture.
        truth: True where it is anomalous.
        levels: The anomaly map, from 0, the lowest pixel of its category or its own, to 255, the highest.
    """

    category: str
    name: str
    score: float
    agreement: float | None
    image: NDArray[np.uint8]  # (SIDE, SIDE, 3)
    truth: NDArray[np.bool_]  # (SIDE, SIDE)
    levels: NDArray[np.uint8]  # (SIDE, SIDE)

    @property
    def key(self) -> str:
        """Its name, independent of the dataset's root."""
        return f"{self.category}: {self.name}"


Shown = dict[str, list[Case]]
"""Cases of each of `KINDS`, in their order on a page."""


@dataclass(frozen=True)
class _Candidate:
    category: str
    path: str
    score: float
    agreement: float | None
    truth: NDArray[np.bool_]
    anomaly_map: NDArray[np.float32]

    @property
    def name(self) -> str:
        return "/".join(Path(self.path).parts[-3:])

    @property
    def key(self) -> str:
        return f"{self.category}: {self.name}"


class CaseKeeper:
    """Watches scored images pass by, and keeps the few that `KINDS` names; memory does not grow with their number.

    Args:
        count: Cases of each kind but the last.
        by_chance: Those of the last kind, from as many categories as there are.
        common_scale: Whether the maps of a category have one scale, on which one sees what a threshold would find;
            else each has its own, on which one sees where it is highest.
    """

    def __init__(self, count: int = 4, by_chance: int = BY_CHANCE, common_scale: bool = True) -> None:
        self._common_scale = common_scale
        self._counts = dict.fromkeys(KINDS, count) | {"by chance": by_chance}
        self._kept: dict[str, list[_Candidate]] = {kind: [] for kind in KINDS[:-1]}
        self._by_category: defaultdict[str, list[_Candidate]] = defaultdict(list)
        self._ranges: dict[str, tuple[float, float]] = {}

    def add(self, category: str, image: ScoredImage) -> None:
        """Consider one image; images without a label or a map are skipped."""
        if image.anomaly_map is None or image.label is None:
            return
        lowest, highest = self._ranges.get(category, (1.0, 0.0))
        pixels = image.anomaly_map
        self._ranges[category] = (min(lowest, float(pixels.min())), max(highest, float(pixels.max())))
        case = _candidate(category, image)
        if not image.label:
            self._keep("false alarms", case)
            return
        self._keep("best", case)
        self._keep("worst", case)
        drawn = sorted([*self._by_category[category], case], key=_lot)
        self._by_category[category] = drawn[: self._counts["by chance"]]

    def shown(self) -> Shown:
        """Read the pictures of what was kept, as far as they can be read, and bring maps to their scale."""
        drawn = in_turn(case for cases in self._by_category.values() for case in cases)
        kept = self._kept | {"by chance": drawn[: self._counts["by chance"]]}
        pictures: dict[str, Case] = {}
        for case in (each for cases in kept.values() for each in cases):
            if case.path not in pictures:
                with extra(case.path):
                    pictures[case.path] = _case(case, self._ranges[case.category] if self._common_scale else ())
        return {kind: [pictures[case.path] for case in cases if case.path in pictures] for kind, cases in kept.items()}

    def _keep(self, kind: str, case: _Candidate) -> None:
        self._kept[kind] = ranked(kind, [*self._kept[kind], case])[: self._counts[kind]]


def agreement_of(
    anomaly_map: NDArray[np.float32],  # (H, W), in [0, 1]
    mask: NDArray[np.bool_] | None,  # (H, W)
) -> float | None:
    """Compute the pixel AUROC of one image; None unless it has normal and anomalous pixels.

    The map has 65536 levels for it: to a few digits, and several times as fast as sorting its pixels.
    """
    if mask is None or mask.all() or not mask.any():
        return None
    lowest, highest = float(anomaly_map.min()), float(anomaly_map.max())
    levels = ((anomaly_map - lowest) * (_LEVELS / max(highest - lowest, _TINY))).astype(np.int64)
    anomalous, normal = (np.bincount(levels[which], minlength=_LEVELS + 1) for which in (mask, ~mask))
    below = np.cumsum(normal) - normal / 2
    return float(anomalous @ below / (anomalous.sum() * normal.sum()))


def ranked(kind: str, cases: list[Any]) -> list[Any]:
    """Sort cases by `kind`, the most extreme first; without masks the image score decides."""
    orders: dict[str, Callable[[Any], float]] = {
        "best": lambda case: -_merit(case),
        "worst": _merit,
        "false alarms": lambda case: -case.score,
    }
    return sorted(cases, key=orders[kind])


def in_turn(cases: Iterable[Any]) -> list[Any]:
    """Shuffle cases, the first of every category before the second of any."""
    by_category = defaultdict(list)
    for case in sorted(cases, key=_lot):
        by_category[case.category].append(case)
    turns = [(turn, _lot(case), case) for own in by_category.values() for turn, case in enumerate(own)]
    return [case for _, _, case in sorted(turns, key=lambda each: each[:2])]


def _lot(case: Any) -> str:
    """A number that is the same in every run and for every detector."""
    return hashlib.sha256(case.key.encode()).hexdigest()


def _merit(case: Any) -> float:
    return case.score if case.agreement is None else case.agreement


def _candidate(category: str, image: ScoredImage) -> _Candidate:
    pixels, mask = np.asarray(image.anomaly_map), image.mask
    truth = np.zeros((SIDE, SIDE), bool) if mask is None else _small(mask.astype(np.float32)) > 0
    agreement = agreement_of(pixels, mask) if image.label else None
    return _Candidate(category, image.path, image.score, agreement, truth, _small(pixels))


def _small(values: NDArray[np.float32]) -> Any:  # (H, W) -> (SIDE, SIDE)
    return cv2.resize(values, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _case(found: _Candidate, limits: tuple[float, ...]) -> Case:
    image, levels = np.asarray(picture_of(found.path)), grey_levels(found.anomaly_map, *limits)
    return Case(found.category, found.name, found.score, found.agreement, image, found.truth, levels)
