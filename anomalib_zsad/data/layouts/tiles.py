"""Long images that published results cut into tiles: one file for each tile, written once beside the images."""

import logging
import shutil
import tempfile
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from anomalib.data.utils import LabelName
from PIL import Image

from anomalib_zsad.data.held_out import hold_out
from anomalib_zsad.data.layouts.listing import Layout, masks_in, subfolder, truth_in
from anomalib_zsad.data.layouts.state_folders import StateFolders
from anomalib_zsad.data.reading import read_image, read_mask
from anomalib_zsad.image_files import folders_in, images_in

logger = logging.getLogger(__name__)

_TILES = "tiles"
_STALE_SECONDS = 3600.0
_OF_STATES = StateFolders()
# Which tiles are tested belongs to the dataset: it does not follow the seed of a training.
_SEED = 42

Picture = tuple[str, str, Path, Path]  # kind, name of its tiles, image, mask


class Tiles(Layout):
    """Images cut from top to bottom; a tile is anomalous if its part of the mask is not empty.

    The tiles are in the folder `tiles` of the set, with the layout of `StateFolders`. Normal ones that are not tested
    are training images.
    """

    def read(self, folder: Path) -> pd.DataFrame:
        """List the tiles, after cutting them if they do not exist; those of an image are a group."""
        self.prepare(folder)
        tiles = _OF_STATES.read(folder / _TILES)
        return tiles.assign(group=tiles["image_path"].map(lambda path: Path(path).stem.rpartition("_")[0]))

    def prepare(self, folder: Path) -> None:
        """Cut the tiles, all or none."""
        if (folder / _TILES).is_dir():
            return
        _remove_leftovers(folder)
        try:
            unfinished = Path(tempfile.mkdtemp(prefix=f".{_TILES}-", dir=folder))
        except OSError as error:
            msg = f"The pictures of {folder} are cut into tiles, expected to be able to write there ({error.strerror})."
            raise OSError(msg) from error
        try:
            self._cut(folder, unfinished)
            unfinished.chmod(0o755)  # A temporary folder is made for its owner alone.
            unfinished.rename(folder / _TILES)
        except OSError:
            if not (folder / _TILES).is_dir():  # Another process may have been faster.
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    @abstractmethod
    def pictures(self, folder: Path) -> list[Picture]:
        """List the pictures to cut."""

    @abstractmethod
    def boxes(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """Return the first and last rows of the tiles of an image."""

    @abstractmethod
    def tested_share(self, normal: int, anomalous: int) -> float:
        """Return the share of the normal tiles of a kind that is tested."""

    def _cut(self, folder: Path, out: Path) -> None:
        pictures = self.pictures(folder)
        logger.info("Cutting %d pictures of %s into tiles: this is done once.", len(pictures), folder)
        tiles = pd.DataFrame(
            [(picture[0], *tile) for picture in pictures for tile in self._cut_one(out, *picture[1:])],
            columns=["category", "image_path", "label_index"],
        )
        for _, of_kind in tiles.groupby("category"):
            normal = of_kind[of_kind["label_index"] == LabelName.NORMAL]
            share = self.tested_share(len(normal), len(of_kind) - len(normal))
            tested = hold_out(normal, share, _SEED) if share < 1 else np.ones(len(normal), dtype=bool)
            for name, is_tested in zip(normal["image_path"], tested, strict=True):
                good = out / ("test" if is_tested else "train") / "good"
                good.mkdir(parents=True, exist_ok=True)
                (out / name).rename(good / name)

    def _cut_one(self, out: Path, name: str, image: Path, mask: Path) -> Iterator[tuple[str, int]]:
        picture = (read_image(image).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        height, width = picture.shape[:2]
        defects = read_mask(mask, image, (height, width)).numpy() * 255
        for number, (top, bottom) in enumerate(self.boxes(height, width)):
            tile, defect = f"{name}_{number}.png", defects[top:bottom]
            if not defect.any():
                _save(picture[top:bottom], out / tile)
                yield tile, int(LabelName.NORMAL)
                continue
            _save(picture[top:bottom], out / "test" / "defect" / tile)
            _save(defect, out / "ground_truth" / "defect" / tile.replace(".png", "_mask.png"))
            yield tile, int(LabelName.ABNORMAL)


class CommutatorTiles(Tiles):
    """KolektorSDD, `kosNN/{PartM.jpg, PartM_label.bmp}`: three tiles a picture, a quarter of the normal ones tested.

    The mask of a normal picture is all zero.
    """

    def fits(self, folder: Path) -> bool:
        """Whether there is a folder of a commutator."""
        return bool(_commutators(folder))

    def pictures(self, folder: Path) -> list[Picture]:
        """List the surfaces of all commutators."""
        return [
            ("commutator", f"{commutator.name}_{image.stem}", image, image.with_name(f"{image.stem}_label.bmp"))
            for commutator in _commutators(folder)
            for image in images_in(commutator)
            if not image.stem.lower().endswith("_label")
        ]

    def boxes(self, height: int, width: int) -> Iterator[tuple[int, int]]:  # noqa: ARG002
        """Cut into thirds; up to two rows at the bottom are left out."""
        return ((row, row + height // 3) for row in (0, height // 3, 2 * (height // 3)))

    def tested_share(self, normal: int, anomalous: int) -> float:  # noqa: ARG002
        """Test a quarter, as AdaCLIP does."""
        return 0.25


class RailTiles(Tiles):
    """RSDDs, `Type-I RSDDs dataset/{Rail surface images, GroundTruth}/rail_N.jpg` and the same for Type-II.

    Every strip has a defect, so the tiles are squares as wide as the strip; the last one ends where the strip does. As
    many normal tiles as anomalous ones are tested, of each type alike: a type would otherwise give the label away.
    """

    counted = False
    strips = (("I", 67), ("II", 128))

    def fits(self, folder: Path) -> bool:
        """Whether there is a folder of a type."""
        return any(_of_type(folder, kind) for kind, _ in self.strips)

    def read(self, folder: Path) -> pd.DataFrame:
        """List the tiles, and warn of missing strips."""
        for kind, expected in self.strips:
            count = len(_strips(_of_type(folder, kind)))
            if count != expected:
                logger.warning("RSDDs at %s has %d strips of type %s, expected %d.", folder, count, kind, expected)
        return super().read(folder)

    def pictures(self, folder: Path) -> list[Picture]:
        """List the strips of both types."""
        found = []
        for kind, _ in self.strips:
            of_type = _of_type(folder, kind)
            if of_type is not None:
                mask_of = masks_in(truth_in(of_type, "GroundTruth"))
                found += [(kind, f"{kind}_{strip.stem}", strip, mask_of(strip)) for strip in _strips(of_type)]
        return found

    def boxes(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """Cut squares."""
        side = min(height, width)
        return ((min(row, height - side), min(row + side, height)) for row in range(0, height, side))

    def tested_share(self, normal: int, anomalous: int) -> float:
        """Test as many as there are anomalous tiles."""
        return anomalous / max(normal, 1)


def _remove_leftovers(folder: Path) -> None:
    """Remove tiles that a killed process was cutting."""
    for unfinished in folder.glob(f".{_TILES}-*"):
        with suppress(OSError):  # another process was faster
            if time.time() - unfinished.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(unfinished)


def _commutators(folder: Path) -> list[Path]:
    return [path for path in folders_in(folder) if path.name.startswith("kos") and images_in(path)]


def _of_type(folder: Path, kind: str) -> Path | None:
    return subfolder(folder, f"Type-{kind} RSDDs dataset")


def _strips(of_type: Path | None) -> list[Path]:
    return images_in(subfolder(of_type, "Rail surface images"))


def _save(
    picture: np.ndarray,  # (H, W) or (H, W, 3), uint8
    path: Path,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
