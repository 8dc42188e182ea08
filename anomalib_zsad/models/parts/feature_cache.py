"""Disk cache of a frozen backbone's features, filled in the first epoch of a training."""

import hashlib
import json
import logging
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

from anomalib_zsad.arguments import checked
from anomalib_zsad.atomic import whole_file
from anomalib_zsad.clip.backbone import FrozenClip

logger = logging.getLogger(__name__)

CacheDtype = Literal["float16", "bfloat16"]
Features = list[Tensor]
"""Of a batch, with the images along the first axis of each tensor; of one image, without that axis."""

_FORMAT = "anomalib_zsad features 1"
_REPEATABLE = (CenterCrop, Normalize, Resize)
"""Deterministic transforms; anomalib adds the model's resize to the augmentations of datasets."""
_READERS = 4


class FeatureCache:
    """Features of images on disk, a file for each.

    The key of a file is a digest of the pre-processed image and of every setting that its features depend on, so stale
    files are never read. A damaged, truncated or foreign file is computed again and replaced. Files are written whole
    or not at all: a training may be killed at any moment, and several may share a folder.

    Computed features are rounded like cached ones: the losses do not depend on the state of the cache.

    Args:
        folder: Holds the caches of all models and settings, each in a folder of its own.
        recipe: Everything that the features of an image depend on, as plain data.
        dtype: The type of cached features. "float16" is finer, up to 65504; "bfloat16" has the range of float32.
        n_images: The expected number of images, for the size that is logged and checked; 0 where it is unknown.

    Raises:
        ValueError: If the type is neither of them.
    """

    @checked
    def __init__(
        self,
        folder: str | Path,
        recipe: dict[str, Any],
        dtype: CacheDtype = "float16",
        n_images: int = 0,
    ) -> None:
        text = json.dumps({"format": _FORMAT, "dtype": dtype, **recipe}, sort_keys=True)
        self.folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.recipe = text
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.n_images = n_images
        self._is_checked = False
        self._is_closed = False

    @classmethod
    def of(cls, encoder: Any, folder: str | Path, dtype: CacheDtype, n_images: int = 0) -> "FeatureCache":
        """Make the cache of an encoder.

        Args:
            encoder: An `Encoder`, with a `clip` and a `recipe` of everything else that its features depend on.
            folder: As in the class.
            dtype: As in the class.
            n_images: As in the class.
        """
        return cls(folder, {**encoder.recipe, "clip": _known(encoder.clip)}, dtype, n_images)

    def __call__(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        encode: Callable[[Tensor], Features],
    ) -> Features:  # of float32
        """Read the features of images; compute and store those that are missing."""
        device = images.device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        batch = _Batch(len(images), images.device)
        with ThreadPoolExecutor(_READERS) as readers:  # hashing, reading, checking and converting release the GIL
            read = partial(self._read_into, batch, autocast)
            paths = list(readers.map(read, range(len(images)), images.detach().cpu()))
        missing = {row: path for row, path in enumerate(paths) if path is not None}
        computed: Features = []
        if missing:
            computed = [_rounded(each, self.dtype) for each in encode(images[list(missing)])]
            for row, *features in zip(missing, *computed, strict=True):
                batch.put(row, features)
        self._check_room(batch.features)
        for index, path in enumerate(missing.values()):
            self._write(path, [each[index].cpu() for each in computed])
        return batch.features

    def _read_into(
        self,
        batch: "_Batch",
        autocast: torch.dtype | None,
        row: int,
        image: Tensor,  # (3, H, W)
    ) -> Path | None:
        """Read the features of an image into its row; return the path where they are missing."""
        path = self._path_of(image, autocast)
        features = self._read(path)
        if features is None:
            return path
        batch.put(row, features)
        return None

    def _path_of(
        self,
        image: Tensor,  # (3, H, W)
        autocast: torch.dtype | None,
    ) -> Path:
        digest = hashlib.sha256(f"{self.recipe} {autocast} {image.dtype} {tuple(image.shape)}".encode())
        digest.update(_bytes_of(image))
        return self.folder / f"{digest.hexdigest()}.safetensors"

    def _read(self, path: Path) -> Features | None:
        """Read a file; None where it does not exist, is damaged, or does not belong to its key."""
        try:
            _read_ahead(path)
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                features = [file.get_tensor(str(index)) for index in range(len(file.keys()))]
        except (OSError, SafetensorError):
            return None
        is_ours = metadata == {"format": _FORMAT, "key": path.stem, "crc32": _crc32(features)}
        return features if is_ours else None

    def _write(self, path: Path, features: Features) -> None:
        if self._is_closed or not all(each.isfinite().all() for each in features):
            return
        metadata = {"format": _FORMAT, "key": path.stem, "crc32": _crc32(features)}
        tensors = {str(index): each.contiguous() for index, each in enumerate(features)}
        try:
            with whole_file(path) as temporary:
                temporary.write_bytes(save(tensors, metadata))
        except OSError as error:
            self._close(error)

    def _close(self, error: OSError) -> None:
        self._is_closed = True
        words = "%s cannot be written (%s): the features of further images are not kept, what is there is still read."
        logger.warning(words, self.folder, error.strerror or error)

    def _check_room(self, features: Features) -> None:
        """Log the size of the cache once that of an image's features is known; raise an error if the disk is too small.

        Existing files may belong to other images: only their number is known.
        """
        if self._is_checked:
            return
        self._is_checked = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._close(error)
            return
        each = sum(tensor[0].numel() * self.dtype.itemsize for tensor in features)
        there = sum(1 for _ in self.folder.glob("[!.]*.safetensors"))
        whole, least = self.n_images * each, max(self.n_images - there, 0) * each
        size = f"{whole / 1e9:.3g} GB for {self.n_images} images of {each / 1e6:.3g} MB"
        if least > (free := shutil.disk_usage(self.folder).free):
            msg = (
                f"cache_features: expected room for {least / 1e9:.3g} GB more at least in {self.folder}, got "
                f"{free / 1e9:.3g} GB: the cache takes {size}; choose a folder on another disk, fewer images, or no "
                "cache"
            )
            raise OSError(msg)
        if there and whole > free:
            words = "%s may have too little room: %.3g GB are free, and the %d files there may be of other images."
            logger.warning(words, self.folder, free / 1e9, there)
        logger.info("Features are kept in %s: %s.", self.folder, size)
        self._write_recipe()

    def _write_recipe(self) -> None:
        path = self.folder / "recipe.json"
        try:
            if not path.is_file() or path.read_text(encoding="utf-8") != self.recipe:
                with whole_file(path) as temporary:
                    temporary.write_text(self.recipe, encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # for readers only; writing features reports the error
            return


class _Batch:
    """Features of the images of a batch, on its device, into which several threads put rows.

    Args:
        count: The number of images.
        device: Where the features are wanted; they travel there in 16 bits, and become float32 there.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.features: Features = []
        self._count, self._device, self._lock = count, device, Lock()

    def put(self, row: int, features: Features) -> None:
        """Convert the features of an image."""
        with self._lock:
            if not self.features:
                shapes = [(self._count, *each.shape) for each in features]
                self.features = [torch.empty(shape, dtype=torch.float32, device=self._device) for shape in shapes]
        for whole, each in zip(self.features, features, strict=True):
            whole[row].copy_(each.to(self._device))


def datasets_of(*loaders: Any) -> list[Any]:
    """List the datasets of a trainer's dataloaders: each argument is one, a list of them, or None."""
    flat = [each for group in loaders for each in (group if isinstance(group, list | tuple) else [group])]
    return [each.dataset for each in flat if hasattr(each, "dataset")]


def check_images_repeat(datasets: Sequence[Any]) -> None:
    """Check that the images of every epoch are the same.

    Raises:
        ValueError: If datasets vary them.
    """
    for dataset in datasets:
        for transform in _flat(getattr(dataset, "augmentations", None)):
            if not isinstance(transform, _REPEATABLE):
                msg = (
                    "cache_features keeps features of images that are the same in every epoch, but the augmentation "
                    f"{type(transform).__name__} varies them: remove the augmentations of the training and validation "
                    "data, or cache_features"
                )
                raise ValueError(msg)


def _flat(transform: Any) -> list[Any]:
    if isinstance(transform, Compose):
        return [part for each in transform.transforms for part in _flat(each)]
    return [] if transform is None else [transform]


def _known(clip: FrozenClip) -> dict[str, Any]:
    """Return the part of a CLIP's identity that its features depend on, without names of files."""
    return {name: clip.identity.get(name) for name in ("fingerprint", "activation", "position_resize", "image_size")}


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = values.detach().to(dtype)
    if rounded.isfinite().all() or not values.isfinite().all():
        return rounded
    msg = (
        f"cache_features: expected features of at most {torch.finfo(dtype).max:g} in {str(dtype)[6:]}, got "
        f"{values.abs().max().item():g}: pass cache_dtype='bfloat16'"
    )
    raise ValueError(msg)


def _read_ahead(path: Path) -> None:
    """Bring a file into memory piece by piece: a file that is mapped first is read from the disk at half the speed."""
    piece = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass


def _crc32(features: Features) -> str:
    crc = 0
    for each in features:
        crc = zlib.crc32(f"{each.dtype} {tuple(each.shape)}".encode(), crc)
        crc = zlib.crc32(_bytes_of(each), crc)
    return f"{crc:08x}"


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
