"""Which files are images: one rule for everything that is read."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Suffixes of image files, as anomalib has them, in lower case."""

_FOREIGN = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})


def is_foreign(name: str) -> bool:
    """Whether a system or a program keeps a file or folder for itself: hidden ones, `__MACOSX` and others."""
    return name.startswith(".") or name.lower() in _FOREIGN


def images_in(folder: Path | None) -> list[Path]:
    """List the images of a folder itself, sorted; none where there is no such folder.

    Images are recognised by their suffix; folders, pipes, and what systems put beside images ("._1.png") are none. A
    link whose end is missing is listed: reading it raises an error.
    """
    return sorted(Path(entry.path) for entry in _entries(folder) if _is_image(entry))


def folders_in(folder: Path | None) -> list[Path]:
    """List the folders of a folder itself, sorted, without those that systems keep for themselves."""
    return sorted(Path(entry.path) for entry in _entries(folder) if not is_foreign(entry.name) and entry.is_dir())


def missing_among(paths: Iterable[str]) -> set[str]:
    """Return the paths at which there is nothing. Folders are listed, instead of every file being looked for."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(os.path.dirname(path), []).append(path)  # noqa: PTH120  (a Path takes ten times as long)
    missing: set[str] = set()
    for folder, files in by_folder.items():
        there = {entry.name for entry in _entries(Path(folder)) if not entry.is_symlink()}
        unlisted = [path for path in files if os.path.basename(path) not in there]  # noqa: PTH119
        missing.update(path for path in unlisted if not os.path.exists(path))  # noqa: PTH110
    return missing


def images_below(folder: Path) -> list[Path]:
    """List the images of a folder and of all folders in it, sorted."""
    return sorted(image for each in folders_below(folder) for image in images_in(each))


def folders_below(folder: Path) -> list[Path]:
    """List a folder and all folders in it, however deep, as `folders_in`; links to folders are not followed."""
    return [folder, *(deeper for each in folders_in(folder) if not each.is_symlink() for deeper in folders_below(each))]


def images_of(path: str | Path) -> list[Path]:
    """List the images of a folder, as `images_below`; or take a single file as it is named.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it is no image, or a folder without any.
    """
    path = Path(path)
    if not path.exists():
        msg = f"There is no file or folder {path}: expected an image or a folder of images."
        raise FileNotFoundError(msg)
    images = images_below(path) if path.is_dir() else [path] if path.suffix.lower() in SUFFIXES else []
    if not images:
        what = "holds none" if path.is_dir() else f"has the suffix {path.suffix!r}"
        msg = f"Expected images ({', '.join(SUFFIXES)}), but {path} {what}."
        raise ValueError(msg)
    return images


def inside(root: Path, path: str, source: Path, otherwise: str = "") -> Path:
    """Place a path that a list names into the folder from which its paths start.

    Links in the folder may lead anywhere: whoever owns the folder has made them.

    Args:
        root: The folder.
        path: As the list has it; one that was written on Windows has backslashes.
        source: The list, for the error.
        otherwise: What may be done instead, for the error.

    Raises:
        ValueError: If the path leads out of the folder.
    """
    found = placed(root, path)
    if not Path(os.path.abspath(found)).is_relative_to(os.path.abspath(root)):  # noqa: PTH100  # links stay as they are
        msg = f"{source} names {path}, which is outside of {root}: expected paths that stay there{otherwise}."
        raise ValueError(msg)
    return found


def placed(root: Path, path: str) -> Path:
    """Place a path as `inside`, wherever it leads."""
    return root / path.replace("\\", "/")


def foreign_among(paths: Sequence[str | Path]) -> list[bool]:
    """Mark the foreign files of a dataset, by their names and those of their folders below the folder of them all."""
    names = [Path(path) for path in paths]
    root = _common(names)
    return [any(map(is_foreign, path.parts[len(root.parts) :])) for path in names]


def _entries(folder: Path | None) -> list[os.DirEntry[str]]:
    if folder is None:
        return []
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_image(entry: os.DirEntry[str]) -> bool:
    if os.path.splitext(entry.name)[1].lower() not in SUFFIXES or is_foreign(entry.name):  # noqa: PTH122
        return False
    return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())


def _common(paths: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # none, on several drives, or absolute and relative ones
        return Path()
