"""Image and mask files as tensors: any bit depth, upright, and one clear sentence where a file cannot be read."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import error as StructError

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import to_dtype, to_image

from anomalib_zsad.drawing.recipe import recipe_of

_WHITE_8_BIT = 255
_WHITE_16_BIT = 65535


def is_there(path: str | Path) -> bool:
    """Tell whether there is such a file, or a picture of that name that is drawn when it is read."""
    return recipe_of(path) is not None or Path(path).exists()


def read_image(path: str | Path) -> tv_tensors.Image:
    """Read an image, turned upright as its EXIF entry says.

    Grey and palette images become RGB. Transparency is dropped, as anomalib does: compositing would invent a
    background, and the edge towards it, that no camera saw. 16-bit images are divided by 65535, the range of the
    format: a bit depth guessed from the brightest pixel would make one speck change the whole image.

    Args:
        path: A file that Pillow can read, or the name of a drawn picture (`Recipe`).

    Returns:
        RGB, shape (3, H, W), float32 in [0, 1].

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file is no image, is truncated, or holds floating-point values.
    """
    if (recipe := recipe_of(path)) is not None:
        return to_dtype(to_image(recipe.picture().image), torch.float32, scale=True)
    with _reading(path):
        picture = _open(path)
        if _is_16_bit(picture):
            grey = torch.from_numpy(_grey_16_bit(picture).astype(np.float32)) / _WHITE_16_BIT
            return tv_tensors.Image(grey.expand(3, -1, -1).contiguous())
        return to_dtype(to_image(_rgb(picture)), torch.float32, scale=True)


def read_mask(
    path: str | Path,
    image_path: str | Path,
    size: tuple[int, int],
    threshold: int = 0,
) -> tv_tensors.Mask:
    """Read a defect mask: a pixel is defective where any of its channels is above the threshold.

    Args:
        path: The mask's file, or the name of a drawn one.
        image_path: The image that the mask belongs to, for the error.
        size: Height and width of that image in pixels.
        threshold: The highest grey level, of 255, that still counts as normal. 16-bit masks are compared on their
            own scale.

    Returns:
        0 or 1, shape (H, W), uint8.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file is no image or is truncated.
        ValueError: The mask's size is not the image's.
    """
    if (recipe := recipe_of(path)) is not None:
        return tv_tensors.Mask(torch.from_numpy(recipe.picture().mask.astype(np.uint8)))
    with _reading(path):
        picture = _open(path)
        if _is_16_bit(picture):
            defective = _grey_16_bit(picture) > threshold * (_WHITE_16_BIT // _WHITE_8_BIT)
        elif picture.mode in {"1", "L", "LA"}:
            defective = np.asarray(picture.convert("L")) > threshold
        else:
            defective = np.asarray(_rgb(picture)).max(axis=-1) > threshold
    if defective.shape != tuple(size):
        msg = (
            f"Mask {path} is {_as_size(defective.shape)} pixels, but its image {image_path} is {_as_size(size)}: "
            "a mask must have the size of its image."
        )
        raise ValueError(msg)
    return tv_tensors.Mask(torch.from_numpy(defective.astype(np.uint8)))


def _open(path: str | Path) -> Image.Image:
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        upright.load()
    return upright


def _is_16_bit(picture: Image.Image) -> bool:
    # Older Pillows open 16-bit PNG files in mode "I".
    return picture.mode == "I" or picture.mode.startswith("I;16")


def _grey_16_bit(picture: Image.Image) -> np.ndarray:
    grey = np.asarray(picture)
    if grey.min() < 0 or grey.max() > _WHITE_16_BIT:
        msg = f"it holds values from {grey.min()} to {grey.max()}, expected 8 or 16 bits a channel"
        raise ValueError(msg)
    return grey


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        msg = "it holds floating-point values, expected 8 or 16 bits a channel"
        raise ValueError(msg)
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        msg = f"Image file {path} does not exist."
        raise FileNotFoundError(msg) from error
    except UnidentifiedImageError as error:
        msg = f"{path} cannot be read: it is no image, or its header is damaged."
        raise OSError(msg) from error
    except (OSError, SyntaxError, ValueError, StructError, zlib.error, Image.DecompressionBombError) as error:
        msg = f"Image file {path} cannot be read: {str(error).rstrip('.')}."
        raise OSError(msg) from error


def _as_size(height_width: tuple[int, ...]) -> str:
    height, width = height_width
    return f"{width} x {height}"
