"""The anomalous images of a folder or of a datamodule, class by class, as questions to a vision model."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_zsad.image_files import folders_below, folders_in, images_below

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule

_NORMAL = re.compile(r"good|ok|normal|no|(.*[ _-])?free", re.IGNORECASE)
_NOT_ANOMALOUS = {"train", "test", "masks", "ground_truth", "label"}
_OF_A_MASK = re.compile(r"[_-](mask|label|gt)$", re.IGNORECASE)
_TEST = "test"
_LONGEST_SIDE = 1024  # pixels: what vision models make of more is less


class UnreadableImageError(ValueError):
    """A file that is no image."""


@dataclass(frozen=True)
class AnomalousImage:
    """An image with a defect.

    Args:
        path: The file.
        key: The path relative to the dataset's root, with slashes.
    """

    path: Path
    key: str


@dataclass(frozen=True)
class LabelledData:
    """A dataset.

    Args:
        name: Of the dataset.
        images: The anomalous images of each class, sorted by key.
    """

    name: str
    images: dict[str, list[AnomalousImage]]


def find_images(data: str, root: Path | None = None, classes: Sequence[str] | None = None) -> LabelledData:
    """Find the anomalous images of a dataset.

    Args:
        data: A folder, or the name or dotted path of an anomalib datamodule. A folder has one folder for each class:
            either with `test/<defect>/<image>` as MVTec AD has it, where "good", "ok", "normal", "no" and "free" are
            no defects, or with nothing but anomalous images. It may be the folder of a single class with `test` itself.
        root: Where a datamodule's dataset is.
        classes: The classes to look for. None: all.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there is no such datamodule, class or image, or if a folder has normal images or masks too.
    """
    found = _in_folder(Path(data), classes) if Path(data).is_dir() else _of_datamodule(data, root, classes)
    empty = [name for name in classes or found.images if not found.images.get(name)]
    if empty or not found.images:
        msg = f"{data} has no anomalous image of {', '.join(empty) or 'any class'}, expected some of every class"
        raise ValueError(msg)
    return found


def png_of(path: Path) -> bytes:
    """Read an image as Ollama takes it: an RGB PNG of at most 1024 pixels a side.

    Raises:
        UnreadableImageError: If it is no image.
    """
    from PIL import Image
    from torchvision.transforms.v2.functional import to_pil_image

    from anomalib_zsad.data.reading import read_image

    try:
        picture = to_pil_image(read_image(path))
    except OSError as error:
        raise UnreadableImageError(str(error)) from error
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _in_folder(folder: Path, classes: Sequence[str] | None) -> LabelledData:
    if (folder / _TEST).is_dir():
        folder, classes = folder.resolve().parent, classes or [folder.resolve().name]
    names = classes or [path.name for path in folders_in(folder)]
    return LabelledData(folder.resolve().name, {name: _of_class(folder, name) for name in names})


def _of_class(folder: Path, name: str) -> list[AnomalousImage]:
    own = folder / name
    if (own / _TEST).is_dir():
        kinds = [kind for kind in folders_in(own / _TEST) if not _NORMAL.fullmatch(kind.name)]
    else:
        kinds = [own]
        other = next(filter(_is_not_anomalous, folders_below(own)), None)
        if other is not None:
            raise ValueError(_mixed(own, folder, f"{other}, by its name a folder of normal images or masks"))
    files = sorted(file for kind in kinds for file in images_below(kind))
    _check_masks_apart(files, own, folder)
    return [AnomalousImage(file, file.relative_to(folder).as_posix()) for file in files]


def _is_not_anomalous(folder: Path) -> bool:
    return bool(_NORMAL.fullmatch(folder.name)) or folder.name.lower() in _NOT_ANOMALOUS


def _check_masks_apart(files: Sequence[Path], own: Path, folder: Path) -> None:
    """Refuse a mask beside its image: two pictures of one name, be it with a `_mask` at the end of one."""
    seen: dict[Path, Path] = {}
    for file in files:
        other = seen.setdefault(file.with_name(_OF_A_MASK.sub("", file.stem)), file)
        if other is not file:
            raise ValueError(_mixed(own, folder, f"{other.name} beside {file.name}, as an image and its mask are"))


def _mixed(own: Path, folder: Path, found: str) -> str:
    return (
        f"expected {own} to hold anomalous images only, found {found}: pass the datamodule of the dataset, such as "
        f"--data MagneticTile --root {folder}, or a folder with one folder of anomalous images for each class"
    )


def _of_datamodule(data: str, root: Path | None, classes: Sequence[str] | None) -> LabelledData:
    from anomalib_zsad.data.categories import parts_of
    from anomalib_zsad.data.category_datamodule import labelled

    if root is not None and not root.is_dir():
        msg = f"there is no folder {root}, expected the dataset that {data} reads"
        raise FileNotFoundError(msg)
    datamodule = _make(data, root)
    parts = parts_of(datamodule, classes)
    samples = labelled(parts, seed=0).samples
    anomalous = samples[samples["label_index"] == 1].sort_values("image_path")
    images = {
        str(category): [
            AnomalousImage(Path(path), _key(Path(path), parts[str(category)])) for path in own["image_path"]
        ]
        for category, own in anomalous.groupby("category", sort=False)
    }
    return LabelledData(datamodule.name, {name: images[name] for name in parts if name in images})


def _key(path: Path, part: "AnomalibDataModule") -> str:
    root = Path(getattr(part, "root", None) or ".").resolve()
    inside = path.resolve().is_relative_to(root)
    return (path.resolve().relative_to(root) if inside else path).as_posix().strip("/")


def _make(data: str, root: Path | None) -> "AnomalibDataModule":
    import anomalib.data

    import anomalib_zsad.data

    home, _, name = data.rpartition(".")
    try:
        homes = [import_module(home)] if home else [anomalib_zsad.data, anomalib.data]
    except (ImportError, ValueError):
        homes = []
    kind = next(filter(None, (getattr(module, name, None) for module in homes)), None)
    if not (isinstance(kind, type) and issubclass(kind, anomalib.data.AnomalibDataModule)):
        msg = f"there is no folder and no datamodule {data}, expected one such as ./datasets/MVTecAD or MVTecAD"
        raise ValueError(msg)
    make: Any = kind
    try:
        return make() if root is None else make(root=root)
    except TypeError as error:
        msg = f"the datamodule {data} needs more than a root: pass the folder itself, with one folder for each class"
        raise ValueError(msg) from error
