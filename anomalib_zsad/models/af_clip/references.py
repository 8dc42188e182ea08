"""Choosing and reading the normal reference images of few-shot detection."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data.utils import LabelName
from torch import Tensor

from anomalib_zsad.data.category_datamodule import CategoryDataModule
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.image_files import images_of


def normal_images_of(datamodule: Any, category: str, stage: str | None) -> list[Path]:
    """List the normal training images of a category, sorted.

    Args:
        datamodule: A datamodule of anomalib or of this package, after its `setup`.
        category: The category.
        stage: The stage of the trainer, which selects the dataset of a datamodule with a target.
    """
    if isinstance(datamodule, CategoryDataModule):
        return datamodule.normal_images(category, stage)
    samples = datamodule.train_data.samples
    return sorted(map(Path, samples[samples["label_index"] == LabelName.NORMAL]["image_path"]))


def files_of(reference: str | Path | Sequence[str | Path]) -> list[Path]:
    """List the images of a folder, or the named ones, sorted.

    Raises:
        FileNotFoundError: If one does not exist.
        ValueError: If there is none.
    """
    named = [reference] if isinstance(reference, str | Path) else list(reference)
    missing = [path for path in named if not Path(path).exists()]
    if missing or not named:
        msg = f"reference: expected a folder of images or image files, found no {missing[0] if missing else 'name'}"
        raise FileNotFoundError(msg)
    return sorted(file for path in named for file in images_of(path))


def draw(
    paths: Sequence[Path],
    shots: int,
    seed: int,
    category: str,
) -> list[Path]:
    """Draw references, which the seed determines; those of k shots are a subset of those of more.

    Raises:
        ValueError: If there are too few images.
    """
    if shots > len(paths):
        msg = f"k_shot={shots}: expected at least {shots} normal images of {category}, found {len(paths)}"
        raise ValueError(msg)
    generator = np.random.default_rng([seed, zlib.crc32(category.encode())])
    return [paths[index] for index in generator.permutation(len(paths))[:shots]]


def read_references(paths: Sequence[Path], pre_processor: Any) -> Iterator[Tensor]:  # of (1, 3, H, W)
    """Read and pre-process images one by one."""
    for path in paths:
        image = read_image(path)[None]
        yield pre_processor.transform(image) if pre_processor else image
