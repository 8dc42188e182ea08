"""Reading image and mask files as tensors: any bit depth, upright, with one clear message for an unreadable file."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import to_dtype, to_image

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
"""Formats of images by Pillow's names. Some of its others start another program to decode a file."""

_WHITE_8_BIT = 255
_WHITE_16_BIT = 65535
_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5  # EXIF orientation: from 5 to 8 width and height are exchanged


_drawings: dict[str, Callable[[str], np.ndarray]] = {}


def register_drawings(
    prefix: str,
    draw: Callable[[str], np.ndarray],  # (H, W, 3), uint8
) -> None:
    """Register a function that draws the images whose names have a prefix, in place of files."""
    _drawings[prefix] = draw


def read_image(path: str | Path) -> tv_tensors.Image:
    """Read an image, rotated upright by its EXIF orientation.

    Grey and palette images become RGB. Transparency is dropped, as by anomalib: compositing would add a background and
    an edge that the camera did not record. 16-bit images are divided by 65535, the range of the format: with a bit
    depth guessed from the brightest pixel one speck would change the whole image.

    Args:
        path: A file in one of `FORMATS`, or a name of one of `register_drawings`.

    Returns:
        RGB, shape (3, H, W), float32 in [0, 1].

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file is no image, is truncated, has more pixels than Pillow's limit (`PIL.Image.MAX_IMAGE_PIXELS`,
            89 million), or holds floating-point values.
    """
    if draw := next((draw for prefix, draw in _drawings.items() if str(path).startswith(prefix)), None):
        return image_of(draw(str(path)))
    with _reading(path):
        return _image_from(_open(path))


def decode_image(content: bytes, name: str, max_pixels: int | None = None) -> tv_tensors.Image:
    """Read the content of an image file as `read_image` reads a file.

    Args:
        content: The bytes.
        name: What it is called in errors.
        max_pixels: More are refused before they are decoded.

    Returns:
        RGB, shape (3, H, W), float32 in [0, 1].

    Raises:
        OSError: As in `read_image`.
    """
    with _reading(name), _opened(BytesIO(content)) as picture:
        if max_pixels is not None and picture.width * picture.height > max_pixels:
            msg = f"expected at most {max_pixels} pixels, got {picture.width} x {picture.height}"
            raise ValueError(msg)
        return _image_from(ImageOps.exif_transpose(picture))


def read_picture(picture: Image.Image, name: str) -> tv_tensors.Image:
    """Read a picture of Pillow as `read_image` reads a file.

    Args:
        picture: Of any mode; it is left as it is.
        name: What it is called in errors.

    Returns:
        RGB, shape (3, H, W), float32 in [0, 1].

    Raises:
        OSError: As in `read_image`.
    """
    with _reading(name):
        return _image_from(ImageOps.exif_transpose(picture))


def image_of(
    pixels: Image.Image | np.ndarray,  # (H, W, 3), uint8
) -> tv_tensors.Image:  # (3, H, W)
    """Turn 8-bit RGB pixels into an image as `read_image` returns it."""
    return to_dtype(to_image(pixels), torch.float32, scale=True)


def grey_image_of(
    pixels: np.ndarray,  # (H, W), 16 bits
) -> tv_tensors.Image:  # (3, H, W)
    """Turn 16-bit grey levels into an image as `read_image` returns it."""
    grey = torch.from_numpy(pixels.astype(np.float32)) / _WHITE_16_BIT
    return tv_tensors.Image(grey.expand(3, -1, -1).contiguous())


def is_lossy(path: Path) -> bool:
    """Whether the format of a file changes grey levels."""
    return path.suffix.lower() in {".jpg", ".jpeg"}


def mask_threshold(path: str | Path) -> int:
    """Return the highest grey level of normal pixels of a mask, of 255.

    JPEG blurs the edges of a mask; in other masks every level above 0 is anomalous.
    """
    return 127 if is_lossy(Path(path)) else 0


def read_mask(
    path: str | Path,
    image_path: str | Path,
    size: tuple[int, int],
    threshold: int | None = None,
) -> tv_tensors.Mask:
    """Read a defect mask: a pixel is defective where any of its channels is above the threshold.

    Fully transparent pixels are normal.

    Args:
        path: The mask's file.
        image_path: The image that the mask belongs to, for the error.
        size: Height and width of that image in pixels.
        threshold: The highest grey level of normal pixels, of 255. None: that of `mask_threshold`. 16-bit masks are
            compared on their own scale.

    Returns:
        0 or 1, shape (H, W), uint8.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: As in `read_image`.
        ValueError: The mask's size is not the image's.
    """
    with _reading(path):
        picture = _open(path)
        level = mask_threshold(path) if threshold is None else threshold
        defective = _above(picture, level) & _visible(picture)
    if defective.shape != tuple(size):
        msg = (
            f"Mask {path} is {_as_size(defective.shape)} pixels, but its image {image_path} is {_as_size(size)}: "
            "a mask must have the size of its image."
        )
        raise ValueError(msg)
    return tv_tensors.Mask(torch.from_numpy(defective.astype(np.uint8)))


def size_of(path: str | Path) -> tuple[int, int]:
    """Return the height and width of an image file in pixels, after rotating it upright.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: As in `read_image`.
    """
    with _reading(path), _opened(path) as picture:
        width, height = picture.size
        return (width, height) if picture.getexif().get(_ORIENTATION, 1) >= _ON_ITS_SIDE else (height, width)


def _image_from(picture: Image.Image) -> tv_tensors.Image:  # (3, H, W)
    if _is_16_bit(picture):
        return grey_image_of(_grey_16_bit(picture))
    return image_of(_rgb(picture))


def _open(path: str | Path) -> Image.Image:
    with _opened(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        upright.load()
    return upright


@contextmanager
def _opened(path: str | Path | BytesIO) -> Iterator[Image.Image]:
    if (
        not isinstance(path, BytesIO) and not Path(path).is_file() and Path(path).exists()
    ):  # opening a pipe would wait for its writer
        msg = "it is no regular file"
        raise ValueError(msg)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        picture = Image.open(path, formats=FORMATS)
    with picture:
        yield picture


def _above(
    picture: Image.Image,
    threshold: int,
) -> np.ndarray:  # (H, W) bool
    if _is_16_bit(picture):
        return _grey_16_bit(picture) > threshold * (_WHITE_16_BIT // _WHITE_8_BIT)
    if picture.mode in {"1", "L", "LA"}:
        return np.asarray(picture.convert("L")) > threshold
    return np.asarray(_rgb(picture)).max(axis=-1) > threshold


def _visible(picture: Image.Image) -> np.ndarray:  # (H, W) bool
    transparent = picture.info.get("transparency")
    if _is_16_bit(picture):
        return np.asarray(picture) != (-1 if transparent is None else transparent)
    if transparent is None and not picture.mode.lower().endswith("a"):
        return np.ones((picture.height, picture.width), dtype=bool)
    return np.asarray(picture.convert("RGBA"))[..., 3] > 0


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
        msg = f"{path} cannot be read: it is no image in one of {', '.join(FORMATS)}, or its header is damaged."
        raise OSError(msg) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        msg = f"Image file {path} cannot be read: expected at most {Image.MAX_IMAGE_PIXELS} pixels, got more ({error})."
        raise OSError(msg) from error
    except Exception as error:  # a damaged file may break any of Pillow's plugins in any way
        msg = f"Image file {path} cannot be read: {str(error).rstrip('.') or type(error).__name__}."
        raise OSError(msg) from error


def _as_size(height_width: tuple[int, ...]) -> str:
    height, width = height_width
    return f"{width} x {height}"
