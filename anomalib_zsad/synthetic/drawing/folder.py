"""A drawn dataset on the disk, in the layout of MVTec AD."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from anomalib_zsad.atomic import whole_file, write_picture
from anomalib_zsad.image_files import is_foreign
from anomalib_zsad.synthetic.drawing.recipe import GOOD, Recipe

MANIFEST = "drawn.json"


def write_pictures(root: Path, recipes: Sequence[Recipe]) -> None:
    """Draw the missing pictures of one category into `<root>/<category>`.

    A run that was interrupted is taken up where it stopped.

    Args:
        root: The folder of the dataset.
        recipes: All pictures of the category.

    Raises:
        FileExistsError: The folder holds pictures that were drawn otherwise, or that were not drawn.
    """
    folder, settings = root / recipes[0].category, settings_of(recipes)
    _check(folder, settings)
    if not (folder / MANIFEST).exists():  # a whole set on a disk that cannot be written is only read
        with whole_file(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    missing = [recipe for recipe in recipes if not (root / recipe.name).exists()]
    title = f"Drawing {recipes[0].category}"
    for recipe in track(missing, title, console=Console(stderr=True), transient=True, disable=not missing):
        picture = recipe.picture()
        if recipe.kind != GOOD:  # Before the image, so that an image that is there has its mask.
            _save(picture.mask.astype(np.uint8) * 255, root / recipe.mask_name)
        _save(picture.image, root / recipe.name)


def settings_of(recipes: Sequence[Recipe]) -> dict[str, object]:
    """Return what the pictures of a category depend on: the seed, the size, the counts and the program."""
    counts: dict[str, int] = {}
    for recipe in recipes:
        counts[f"{recipe.split}/{recipe.kind}"] = counts.get(f"{recipe.split}/{recipe.kind}", 0) + 1
    return {"seed": recipes[0].seed, "image_size": recipes[0].size, "counts": counts, "program": _program()}


def _check(folder: Path, settings: dict[str, object]) -> None:
    manifest = folder / MANIFEST
    if not manifest.exists():
        if folder.exists() and not all(is_foreign(path.name) for path in folder.iterdir()):
            msg = f"{folder} holds files and no {MANIFEST}: expected an empty folder to draw into; choose another root."
            raise FileExistsError(msg)
        return
    found = json.loads(manifest.read_text(encoding="utf-8"))
    differing = [key for key, value in settings.items() if found.get(key) != value]
    if differing:
        key = differing[0]
        msg = (
            f"The pictures in {folder} were drawn with {key} {found.get(key)}, expected {settings[key]}: choose "
            "another root, or delete the folder."
        )
        raise FileExistsError(msg)


@lru_cache(maxsize=1)
def _program() -> str:
    # A changed program draws other pictures: those of the old one must not be taken for them.
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _save(
    values: np.ndarray,  # (H, W, 3) or (H, W), uint8
    path: Path,
) -> None:
    write_picture(Image.fromarray(values), path, compress_level=1)
