"""Tiny datasets in the exact folder layouts of the real ones, seeded: light ellipses, defects are dark squares."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MVTEC_CATEGORIES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
    "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
VISA_CATEGORIES = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3", "pcb4",
    "pipe_fryum",
)  # fmt: skip
MAGNETIC_TILE_DEFECTS = ("MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")
_GREY_IN_MVTEC = ("grid", "screw", "zipper")


def mvtec_tree(
    root: Path,
    categories: Sequence[str] = MVTEC_CATEGORIES,
    normal: int = 3,
    anomalous: int = 4,
    train: int = 2,
    size: tuple[int, int] = (32, 32),
    seed: int = 0,
) -> Path:
    """MVTec AD: `<category>/{train/good,test/good,test/<defect>,ground_truth/<defect>}`, two defects a category.

    Args:
        root: Where to put it.
        categories: Its categories.
        normal: Normal test images a category.
        anomalous: Anomalous test images a category.
        train: Training images a category.
        size: Height and width in pixels.
        seed: Seed of the pictures.
    """
    generator = np.random.default_rng(seed)
    for category in categories:
        mode = "L" if category in _GREY_IN_MVTEC else "RGB"
        folder = root / category
        for split, count in (("train", train), ("test", normal)):
            for number in range(count):
                _save(_normal(generator, size), folder / split / "good" / f"{number:03d}.png", mode)
        for number in range(anomalous):
            kind, index = ("broken", "scratch")[number % 2], f"{number // 2:03d}"
            picture, mask = _anomalous(generator, size)
            _save(picture, folder / "test" / kind / f"{index}.png", mode)
            _save(mask * 255, folder / "ground_truth" / kind / f"{index}_mask.png")
    return root


def visa_tree(
    root: Path,
    categories: Sequence[str] = VISA_CATEGORIES,
    normal: int = 3,
    anomalous: int = 3,
    train: int = 2,
    size: tuple[int, int] = (32, 40),
    seed: int = 0,
) -> Path:
    """VisA as downloaded: `<category>/Data/{Images/{Normal,Anomaly},Masks/Anomaly}` and `split_csv/1cls.csv`.

    The images are `.JPG`, the masks hold small class numbers.

    Args:
        root: Where to put it.
        categories: Its categories.
        normal: Normal test images a category.
        anomalous: Anomalous test images a category.
        train: Training images a category.
        size: Height and width in pixels.
        seed: Seed of the pictures.
    """
    generator = np.random.default_rng(seed)
    rows = [["object", "split", "label", "image", "mask"]]
    for category in categories:
        for number in range(train + normal):
            image = Path(category, "Data", "Images", "Normal", f"{number:04d}.JPG")
            _save(_normal(generator, size), root / image, "RGB")
            rows.append([category, "train" if number < train else "test", "normal", image.as_posix(), ""])
        for number in range(anomalous):
            image = Path(category, "Data", "Images", "Anomaly", f"{number:03d}.JPG")
            mask_path = Path(category, "Data", "Masks", "Anomaly", f"{number:03d}.png")
            picture, mask = _anomalous(generator, size)
            _save(picture, root / image, "RGB")
            _save(mask * (1 + number % 4), root / mask_path)
            rows.append([category, "test", "anomaly", image.as_posix(), mask_path.as_posix()])
    (root / "split_csv").mkdir(parents=True, exist_ok=True)
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def magnetic_tile_tree(
    root: Path,
    free: int = 12,
    anomalous: int = 4,
    size: tuple[int, int] = (40, 32),
    seed: int = 0,
) -> Path:
    """Magnetic Tile Defect: `MT_<Kind>/Imgs/exp<E>_num_<N>.jpg` beside its mask of the same name, `.png`, all grey.

    Two exposures a tile, sizes that vary, masks with grey rims, one empty mask in MT_Uneven.

    Args:
        root: Where to put it.
        free: Images without a defect.
        anomalous: Images of every kind of defect.
        size: Smallest height and width in pixels.
        seed: Seed of the pictures.
    """
    generator = np.random.default_rng(seed)
    frame = 0
    for kind, count in (("MT_Free", free), *((kind, anomalous) for kind in MAGNETIC_TILE_DEFECTS)):
        for number in range(count):
            exposure = number % 2 + 1
            frame += 15 if exposure == 2 else 1000
            shape = (size[0] + number, size[1] + number)
            picture, mask = (
                (_normal(generator, shape), np.zeros(shape)) if kind == "MT_Free" else _anomalous(generator, shape)
            )
            if kind == "MT_Uneven" and number == 0:
                mask = np.zeros(shape)
            stem = root / kind / "Imgs" / f"exp{exposure}_num_{frame}"
            _save(picture, stem.with_suffix(".jpg"))
            _save(_with_grey_rim(mask), stem.with_suffix(".png"))
    return root


def _normal(
    generator: np.random.Generator,
    size: tuple[int, int],
) -> np.ndarray:  # (H, W), grey levels
    rows, columns = np.ogrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    height, width = generator.uniform(0.7, 0.9, 2)
    inside = (rows / height) ** 2 + (columns / width) ** 2 < 1
    return np.where(inside, 200, 90) + generator.normal(0, 4, size)


def _anomalous(
    generator: np.random.Generator,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:  # (H, W) grey levels, (H, W) 0 or 1
    picture, mask = _normal(generator, size), np.zeros(size)
    side = min(size) // 4
    top, left = (generator.integers(length // 4, length // 2) for length in size)
    mask[top : top + side, left : left + side] = 1
    return np.where(mask == 1, 20, picture), mask


def _with_grey_rim(
    mask: np.ndarray,  # (H, W), 0 or 1
) -> np.ndarray:
    rim = np.maximum(np.roll(mask, 1, axis=0), np.roll(mask, 1, axis=1)) * 100
    return np.maximum(mask * 255, rim)


def _save(
    picture: np.ndarray,  # (H, W), grey levels
    path: Path,
    mode: str = "L",
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert(mode).save(path)


def noise_images(folder: Path, count: int) -> Path:
    """Write images of noise that are all different; normal ones of a process, for a calibration."""
    generator = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder
