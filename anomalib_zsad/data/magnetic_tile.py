"""Magnetic Tile Defect: images of magnetic tiles, without defects or with one of five kinds."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, Split

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.categories import one_category
from anomalib_zsad.data.held_out import hold_out
from anomalib_zsad.data.reading import is_lossy
from anomalib_zsad.data.source import Source
from anomalib_zsad.image_files import images_in

logger = logging.getLogger(__name__)

_FREE = "MT_Free"
_PUBLISHED = {_FREE: 952, "MT_Blowhole": 115, "MT_Break": 85, "MT_Crack": 57, "MT_Fray": 32, "MT_Uneven": 103}
_DEFECTS = tuple(kind for kind in _PUBLISHED if kind != _FREE)
_CATEGORY = "magnetic_tile"

# The masks are anti-aliased: above 0 instead of 127 a crack's area is 1.46 times as large.
_MASK_THRESHOLD = 127

# File names count camera frames. One tile is pictured under up to six exposures within some 100 frames of one
# another, and no two pictures that are 200 to 300 frames apart show the same tile.
_FRAMES_BETWEEN_TILES = 200
_FRAME = re.compile(r"exp\d+_num_(\d+)")


class MagneticTile(Auxiliary):
    """Train on some kinds of defect of Magnetic Tile Defect and test on others, or use all of it.

    Naming kinds to train or to test on splits the set: the other side gets the remaining kinds unless they are named
    too, and the defect-free tiles are divided, all images of a tile on the same side. Otherwise it is used as a whole,
    like any auxiliary dataset.

    Args:
        root: The folder that holds MT_Free, MT_Blowhole and so on.
        train_defects: The kinds of defect to train on, such as MT_Crack.
        test_defects: The kinds of defect to test on.
        free_train_share: The share of the defect-free images to train on, where the set is split.
        val_ratio: The share of the training images held out for validation.
        **plumbing: Batch sizes, workers, augmentations and seed, as in `CategoryDataModule`.

    Example:
        >>> datamodule = MagneticTile("./datasets/MagneticTile", train_defects=["MT_Blowhole", "MT_Crack", "MT_Fray"])
    """

    @arg.checked
    def __init__(
        self,
        root: str | Path = "./datasets/MagneticTile",
        train_defects: Sequence[str] | None = None,
        test_defects: Sequence[str] | None = None,
        free_train_share: arg.ShareInside = 2 / 3,
        val_ratio: arg.ShareBelowOne = 0.1,
        seed: arg.Seed = 0,
        **plumbing: Any,
    ) -> None:
        trained, tested = _sides(train_defects, test_defects)

        def side(split: Split | None) -> AnomalibDataModule:
            return one_category(_Tiles(Path(root), trained, tested, free_train_share, split, seed), _CATEGORY)

        target = side(Split.TEST) if trained else None
        super().__init__(
            side(Split.TRAIN if trained else None), target=target, val_ratio=val_ratio, seed=seed, **plumbing
        )


@dataclass(frozen=True)
class _Tiles(Source):
    """One side of the set, or all of it, as labelled images; its training data are the normal ones to train on."""

    root: Path
    train_defects: Sequence[str]
    test_defects: Sequence[str]
    free_train_share: float
    side: Split | None
    """None: all images."""
    seed: int
    """Seed of the choice of defect-free tiles."""
    name = "MagneticTile"
    categories = (_CATEGORY,)

    def has_category(self, category: str) -> bool:  # noqa: ARG002
        return (self.root / _FREE / "Imgs").is_dir()

    def prepare(self, category: str) -> None:  # noqa: ARG002
        for kind in (*self.train_defects, *self.test_defects, _FREE):
            if not (self.root / kind / "Imgs").is_dir():
                msg = (
                    f"No folder {self.root / kind / 'Imgs'}: expected {self.root} to hold {_FREE} and the folders of "
                    "the defects, as in the Magnetic-tile-defect-datasets of abin24 on GitHub."
                )
                raise FileNotFoundError(msg)

    def read(self, category: str) -> pd.DataFrame:  # noqa: ARG002
        samples = _list(self.root, (*self.train_defects, *self.test_defects, _FREE))
        self._check_counts(Counter(map(str, samples["kind"])))
        if self.side is None:
            return samples
        to_train_on = samples["kind"].isin(self.train_defects) | self._free_to_train_on(samples)
        normal = samples[to_train_on & (samples["kind"] == _FREE)].assign(split=Split.TRAIN.value)
        return pd.concat([samples[to_train_on if self.side == Split.TRAIN else ~to_train_on], normal])

    def _check_counts(self, found: Counter[str]) -> None:
        differing = [
            f"{count} images in {kind} instead of {_PUBLISHED[kind]}"
            for kind, count in found.items()
            if count != _PUBLISHED[kind]
        ]
        if differing:
            logger.warning(
                "MagneticTile at %s has %s: figures will differ from published ones.", self.root, ", ".join(differing)
            )

    def _free_to_train_on(
        self,
        samples: pd.DataFrame,
    ) -> pd.Series:  # (len(samples),) bool
        # A tile with defects has defect-free pictures too: those follow its defects.
        is_free = samples["kind"] == _FREE
        with_tested, with_trained = (
            is_free & samples["group"].isin(samples["group"][samples["kind"].isin(kinds)].dropna())
            for kinds in (self.test_defects, self.train_defects)
        )
        undecided = is_free & ~with_tested & ~with_trained
        wanted = (1 - self.free_train_share) * is_free.sum() - with_tested.sum()
        ratio = float(np.clip(wanted / max(undecided.sum(), 1), 0, 0.999))
        to_train_on = with_trained & ~with_tested
        to_train_on[undecided] = ~hold_out(samples[undecided], ratio, self.seed)
        return to_train_on


def _sides(
    train_defects: Sequence[str] | None,
    test_defects: Sequence[str] | None,
) -> tuple[Sequence[str], Sequence[str]]:
    for kind in (*(train_defects or ()), *(test_defects or ())):
        if kind not in _DEFECTS:
            msg = f"Unknown kind of defect {kind!r}, expected some of: {', '.join(_DEFECTS)}."
            raise ValueError(msg)
    trained = train_defects or [kind for kind in _DEFECTS if test_defects and kind not in test_defects]
    tested = test_defects or [kind for kind in _DEFECTS if kind not in trained]
    both = set(trained) & set(tested)
    if both or not tested:
        msg = f"Expected kinds to train on and other kinds to test on, got {list(trained)} and {list(tested)}."
        raise ValueError(msg)
    return trained, tested


def _list(root: Path, kinds: Sequence[str]) -> pd.DataFrame:
    samples = pd.DataFrame(
        [(kind, path) for kind in kinds for path in images_in(root / kind / "Imgs") if is_lossy(path)],
        columns=["kind", "path"],
    )
    is_free = samples["kind"] == _FREE
    return pd.DataFrame(
        {
            "image_path": samples["path"].map(str),
            # The masks lie beside the images; those of defect-free tiles are all zero and are left out.
            "mask_path": samples["path"].map(lambda path: str(path.with_suffix(".png"))).mask(is_free, ""),
            "mask_threshold": _MASK_THRESHOLD,
            "label_index": np.where(is_free, int(LabelName.NORMAL), int(LabelName.ABNORMAL)),
            "split": Split.TEST.value,
            "category": _CATEGORY,
            "kind": samples["kind"],
            "group": _tiles(samples["path"].map(lambda path: path.stem)),
        },
    )


def _tiles(
    stems: pd.Series,  # file names without their suffix
) -> pd.Series:
    """Return the tile of every image, as its first frame; None if the file name has no frame number."""
    frames = stems.str.extract(_FRAME)[0].dropna().astype(int).sort_values()
    firsts = frames.where(~(frames.diff() <= _FRAMES_BETWEEN_TILES)).ffill().astype(int)
    return firsts.map("{:08d}".format).reindex(stems.index)
