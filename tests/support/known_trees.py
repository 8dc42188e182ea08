"""Published datasets in small: the exact names of files and folders, with every oddity of the real ones.

A tree has `normal` and `anomalous` test images a category. Every image is noise; a defect is a bright square of 4 x 4
pixels, so a mask that is read right has 16 pixels.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

NORMAL, ANOMALOUS = 3, 2
DEFECT_AREA = 16
DTD = (
    "Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037", "Stratified_154",
    "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127",
)  # fmt: skip
_SIZE = (16, 24)
_LEVELS = np.random.default_rng(0).integers(60, 120, _SIZE)


def image(path: Path, anomalous: bool = False, mode: str = "L", size: tuple[int, int] = _SIZE) -> Path:
    """Write a picture."""
    return _save(np.resize(_LEVELS, size) + 130 * defect(anomalous, size=size), path, mode)


def mask(path: Path, anomalous: bool = True, size: tuple[int, int] = _SIZE, level: int = 255) -> Path:
    """Write the mask of a picture."""
    return _save(level * defect(anomalous, size=size), path)


def defect(anomalous: bool = True, row: int = 8, size: tuple[int, int] = _SIZE) -> np.ndarray:  # (H, W), 0 or 1
    shown = np.zeros(size, dtype=int)
    shown[row : row + 4, 8:12] = anomalous
    return shown


def states(
    folder: Path,
    normal: str | None = "good",
    defects: str = "defect",
    suffix: str = ".png",
    tail: str | None = "_mask",
    train: int = 1,
    mask_suffix: str = ".png",
) -> Path:
    """One category as in MVTec AD; without masks where `tail` is None."""
    for number in range(train if normal else 0):
        image(folder / "train" / str(normal) / f"{number:03d}{suffix}")
    for number in range(NORMAL if normal else 0):
        image(folder / "test" / str(normal) / f"{number:03d}{suffix}")
    for number in range(ANOMALOUS):
        image(folder / "test" / defects / f"{number:03d}{suffix}", anomalous=True)
        if tail is not None:
            mask(folder / "ground_truth" / defects / f"{number:03d}{tail}{mask_suffix}")
    return folder


def btad(root: Path) -> Path:
    """Pictures of 01 and 03 are bmp, masks of 03 too."""
    for category, suffix, mask_suffix in (("01", ".bmp", ".png"), ("02", ".png", ".png"), ("03", ".bmp", ".bmp")):
        states(root / category, "ok", "ko", suffix, "", mask_suffix=mask_suffix)
    return root


def dagm(root: Path) -> Path:
    """Capital names; only defective pictures have a mask; training pictures have defects too."""
    for number in range(1, 11):
        for split, first in (("Train", 100), ("Test", 0)):
            folder = root / f"Class{number}" / split
            for index in range(first, first + NORMAL + ANOMALOUS):
                image(folder / f"{index:04d}.PNG", anomalous=index < first + ANOMALOUS)
                if index < first + ANOMALOUS:
                    mask(folder / "Label" / f"{index:04d}_label.PNG")
            (folder / "Label" / "Labels.txt").write_text("1\n")
    return root


def dtd_synthetic(root: Path) -> Path:
    """Normal pictures of Woven_068 are called mesh_NNN."""
    for category in DTD:
        states(root / category, defects="bad")
    for path in (root / "Woven_068" / "test" / "good").iterdir():
        path.rename(path.with_name(f"mesh_{path.name}"))
    return root


def ksdd2(root: Path) -> Path:
    """A mask for every picture, stray copies, a picture without a mask."""
    for split, first in (("train", 10000), ("test", 20000)):
        for index in range(NORMAL + ANOMALOUS):
            stem = root / split / f"{first + index}"
            image(stem.with_suffix(".png"), anomalous=index < ANOMALOUS, mode="RGB")
            mask(stem.with_name(f"{stem.name}_GT.png"), anomalous=index < ANOMALOUS)
        image(root / split / f"{first} (copy).png")
        mask(root / split / f"{first} (copy)_GT.png")
        image(root / split / f"{first + 99}.png")
    return root


def rsdd(root: Path) -> Path:
    """Strips, 4 squares and a rest high, with defects in the first square and, in Type-II, in the rest; JPEG masks."""
    for kind, side, rows in (("I", 16, (4,)), ("II", 24, (4, 24 * 4 + 8))):
        size = (side * 4 + 12, side)
        folder = root / f"Type-{kind} RSDDs dataset"
        for number in (1, 2):
            shown = sum(defect(row=row, size=size) for row in rows)
            _save(100 + 100 * shown, folder / "Rail surface images" / f"rail_{number}.jpg")
            _save(255 * shown, folder / "GroundTruth" / f"rail_{number}.jpg", quality=95)
    return root


def sdd(root: Path) -> Path:
    """Three parts a commutator, a mask for every picture; heights that three does not divide."""
    for commutator in (1, 2, 3):
        for part in (0, 1, 2):
            size, is_defective = (50, 16), part == 0 and commutator < 3
            stem = root / f"kos{commutator:02d}" / f"Part{part}"
            image(stem.with_suffix(".jpg"), anomalous=is_defective, size=size)
            mask(stem.with_name(f"{stem.name}_label.bmp"), anomalous=is_defective, size=size)
    return root


def bmad(root: Path, masks: str = "label", names: str = "{}", splits: tuple[str, ...] = ("valid", "test")) -> Path:
    """Capital Ungood, masks among the anomalous pictures, masks of normal ones too."""
    for category in ("Brain", "Liver", "Retina_RESC"):
        folder = root / names.format(category)
        for split in splits:
            for number in range(NORMAL):
                image(folder / split / "good" / "img" / f"0012{number}_60.png")
                mask(folder / split / "good" / masks / f"0012{number}_60.png", anomalous=False)
            for number in range(ANOMALOUS):
                image(folder / split / "Ungood" / "img" / f"0034{number}_60.png", anomalous=True)
                mask(folder / split / "Ungood" / masks / f"0034{number}_60.png")
        image(folder / "train" / "good" / "0001_1.png")
    return root


def brain_mri(root: Path) -> Path:
    """Mixed suffixes, blanks in names, both folders twice."""
    for folder in (root, root / "brain_tumor_dataset"):
        for name in ("1 no.jpeg", "N1.JPG", "10no.jpg"):
            image(folder / "no" / name)
        for name in ("Y100.JPG", "Y1.jpg"):
            image(folder / "yes" / name, anomalous=True)
    return root


def br35h(root: Path) -> Path:
    """Folders beside the two that are of no concern."""
    for name in ("no0.jpg", "no1.jpg", "No12.jpg"):
        image(root / "no" / name)
    for name in ("y0.jpg", "y1.jpg"):
        image(root / "yes" / name, anomalous=True)
        image(root / "Br35H-Mask-RCNN" / "TRAIN" / name, anomalous=True)
    image(root / "pred" / "pred0.jpg")
    return root


def head_ct(root: Path) -> Path:
    """A table whose second header has a blank before it; the folder of the pictures twice."""
    for number in range(NORMAL + ANOMALOUS):
        image(root / "head_ct" / "head_ct" / f"{number:03d}.png", anomalous=number < ANOMALOUS)
    labels = [f"{number},{int(number < ANOMALOUS)}" for number in range(NORMAL + ANOMALOUS)]
    (root / "labels.csv").write_text("\n".join(["id, hemorrhage", *labels]) + "\n")
    return root


def covid19(root: Path) -> Path:
    """Masks of lungs, other diseases."""
    for name, count in (("Normal", NORMAL), ("COVID", ANOMALOUS), ("Lung_Opacity", 2), ("Viral Pneumonia", 1)):
        for number in range(1, count + 1):
            image(root / name / "images" / f"{name}-{number}.png", anomalous=name != "Normal")
            mask(root / name / "masks" / f"{name}-{number}.png")
    (root / "COVID.metadata.xlsx").touch()
    return root


def isic(root: Path) -> Path:
    """Sizes that differ."""
    for number in range(ANOMALOUS):
        size = (16 + number, 24)
        stem = f"ISIC_000000{number}"
        image(root / "ISBI2016_ISIC_Part1_Test_Data" / f"{stem}.jpg", True, "RGB", size)
        mask(root / "ISBI2016_ISIC_Part1_Test_GroundTruth" / f"{stem}_Segmentation.png", size=size)
    return root


def images_masks(
    root: Path,
    suffix: str = ".png",
    mask_suffix: str = ".png",
    folders: tuple[str, str] = ("images", "masks"),
) -> Path:
    """Polyps; a picture in colours for a mask, as in Kvasir."""
    for number in range(1, ANOMALOUS + 1):
        image(root / folders[0] / f"{number}{suffix}", True, "RGB")
        _save(255 * defect(), root / folders[1] / f"{number}{mask_suffix}", "RGB")
    return root


def tn3k(root: Path) -> Path:
    """Ultrasound, JPEG throughout."""
    return images_masks(root / "tn3k", ".jpg", ".jpg", ("test-image", "test-mask"))


TREES: dict[str, Callable[[Path], Path]] = {
    "BTAD": btad,
    "DAGM": dagm,
    "DTDSynthetic": dtd_synthetic,
    "KSDD2": ksdd2,
    "RSDD": rsdd,
    "SDD": sdd,
    "BMADSegmentation": bmad,
    "BrainMRI": brain_mri,
    "Br35H": br35h,
    "HeadCT": head_ct,
    "COVID19": covid19,
    "ISIC": isic,
    "ColonDB": images_masks,
    "ClinicDB": images_masks,
    "Kvasir": images_masks,
    "CVC300": images_masks,
    "Endo": images_masks,
    "TN3K": tn3k,
}


def jsonl(root: Path, class_names: tuple[str, ...] = ("Dent", "Crush")) -> Path:
    """The list of AA-CLIP and ACD-CLIP, one test image a line."""
    lines = [
        {
            "image_path": image(root / name / f"{label}.png", bool(label)).relative_to(root).as_posix(),
            "label": label,
            "class_name": name,
            "mask_path": mask(root / name / f"{label}_mask.png").relative_to(root).as_posix() if label else "",
        }
        for name in class_names
        for label in (0, 1)
    ]
    file = root / "RSDD.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return file


def meta_json(root: Path, class_names: tuple[str, ...] = ("colon", "skin"), windows: bool = False) -> Path:
    """The list of AnomalyCLIP and AdaCLIP, training images and test images by category."""
    content: dict[str, dict[str, list]] = {"train": {}, "test": {}}
    for split, labels in (("train", (0,)), ("test", (0, 1))):
        for name in class_names:
            content[split][name] = [
                {
                    "img_path": f"{name}/{split}/{label}.png",
                    "mask_path": f"{name}/{split}/{label}_mask.png" if label else "",
                    "cls_name": name,
                    "specie_name": "defect" if label else "good",
                    "anomaly": label,
                }
                for label in labels
            ]
            for label in labels:
                image(root / name / split / f"{label}.png", bool(label))
                mask(root / name / split / f"{label}_mask.png")
    text = json.dumps(content)
    (root / "meta.json").write_text(text.replace("/", "\\\\") if windows else text)
    return root / "meta.json"


def _save(picture: np.ndarray, path: Path, mode: str = "L", **options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert(mode).save(path, **options)
    return path
