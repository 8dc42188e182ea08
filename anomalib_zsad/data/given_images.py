"""Images as users have them at hand: files, folders, pictures of Pillow, arrays and tensors, or lists of these."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from anomalib_zsad.data.reading import grey_image_of, image_of, read_image, read_picture
from anomalib_zsad.image_files import images_of

_KINDS = "a path, a folder, a PIL image, an array, a tensor, or a list of these"
_ARRAY = "an array of shape (H, W) or (H, W, 3), uint8, uint16 or floats in [0, 1]"
_TENSOR = "a tensor of shape (H, W), (1, H, W) or (3, H, W), uint8, uint16 or floats in [0, 1]"


@dataclass(frozen=True, eq=False)
class GivenImage:
    """An image that is yet to be read.

    Args:
        name: What it is called in messages.
        content: A file, a picture, or checked pixels, (H, W) or (H, W, 3).
    """

    name: str
    content: Path | Image.Image | np.ndarray

    @property
    def path(self) -> str | None:
        """The file; None for what is in memory."""
        return str(self.content) if isinstance(self.content, Path) else None

    def read(self) -> tv_tensors.Image:  # (3, H, W)
        """Return it as `reading.read_image` returns a file.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: The file or picture cannot be read.
        """
        if isinstance(self.content, Path):
            return read_image(self.content)
        if isinstance(self.content, Image.Image):
            return read_picture(self.content, self.name)
        return _image_of(self.content)


def given_images(images: Any, name: str = "images") -> list[GivenImage]:
    """List the images that were given, in their order; the files of a folder are sorted by their paths.

    Args:
        images: Files, folders, pictures, arrays and tensors as in the messages above, batches of them with a further
            dimension in front, or any iterable of these.
        name: The argument, for messages.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A file is no image, a folder holds none, or pixels are of another shape, type or range.
        TypeError: It is something else.
    """
    if isinstance(images, str | Path):
        return [GivenImage(str(path), path) for path in images_of(Path(images).expanduser())]
    if isinstance(images, Image.Image):
        return [GivenImage(name, images)]
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            return [_checked(image, f"{name}[{number}]") for number, image in enumerate(images)]
        return [_checked(images, name)]
    if not isinstance(images, Iterable) or isinstance(images, bytes | bytearray | dict):
        msg = f"{name}: expected {_KINDS}, got {type(images).__name__}"
        raise TypeError(msg)
    found = [each for number, one in enumerate(images) for each in given_images(one, f"{name}[{number}]")]
    if not found:
        msg = f"{name}: expected at least one image, got an empty {type(images).__name__}"
        raise ValueError(msg)
    return found


def is_one_image(images: Any) -> bool:
    """Whether images are a single one, not a folder, a batch or a list, whatever their number."""
    if isinstance(images, str | Path):
        return not Path(images).expanduser().is_dir()
    return isinstance(images, Image.Image) or (isinstance(images, np.ndarray | Tensor) and images.ndim != 4)


def _checked(pixels: np.ndarray | Tensor, name: str) -> GivenImage:
    expected = _TENSOR if isinstance(pixels, Tensor) else _ARRAY
    if isinstance(pixels, Tensor):
        shape, array = tuple(pixels.shape), _as_array(pixels)
    else:
        shape, array = pixels.shape, pixels
    kind = str(array.dtype)
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not fits or not array.size or not (kind in {"uint8", "uint16"} or array.dtype.kind == "f"):
        msg = f"{name}: expected {expected}, got shape {shape}, {kind}"
        raise ValueError(msg)
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):  # not so with NaN
        msg = f"{name}: expected floats in [0, 1], got values from {array.min():g} to {array.max():g}"
        raise ValueError(msg)
    return GivenImage(name, array)


def _as_array(pixels: Tensor) -> np.ndarray:  # (H, W) or (H, W, C)
    if pixels.ndim == 3:
        pixels = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    return pixels.detach().cpu().float().numpy() if pixels.dtype == torch.bfloat16 else pixels.detach().cpu().numpy()


def _image_of(
    pixels: np.ndarray,  # (H, W) or (H, W, 3)
) -> tv_tensors.Image:  # (3, H, W)
    if pixels.dtype == np.uint16 and pixels.ndim == 2:
        return grey_image_of(pixels)
    colours = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    if pixels.dtype == np.uint8:
        return image_of(colours.copy())  # torch takes no negative strides
    scale = np.iinfo(np.uint16).max if pixels.dtype == np.uint16 else 1
    values = torch.from_numpy(colours.transpose(2, 0, 1).astype(np.float32, order="C"))
    return tv_tensors.Image(values / scale)
