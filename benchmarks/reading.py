"""How fast the images of a training are read: images/s of one core, and what one process can take up.

    python benchmarks/reading.py

An image and its mask as a dataset of this package gives them to a training at 518 px: decoded, resized (bicubic,
antialiased), and the mask as published targets want it. Sizes are those of MVTec AD (1024 x 1024) and VisA
(1500 x 1000); the images are drawn, with the noise of a camera, which decides the size of the files. Rates are of the
processor's time with one thread, medians. "Taken up" is what the process of the training itself needs for an image that
a worker has read.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anomalib.data.utils import LabelName
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_zsad.data.adopting import resizes_of
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.reading import read_image, read_mask
from anomalib_zsad.data.soft_mask import SoftMask
from anomalib_zsad.models.parts.pre_processor import ClipPreProcessor
from anomalib_zsad.synthetic.drawing.recipe import Recipe

SIZE, NOISE = 518, 2.0
SIZES = {"MVTec AD": (1024, 1024), "VisA": (1000, 1500)}
NEEDED = 12.5
"""Images/s of a core: 100 of eight."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    (resize,) = resizes_of(ClipPreProcessor.of_size(SIZE))
    print(f"torch {torch.__version__}, {SIZE} px, medians of {options.repeats}, ms of the processor for an image")
    print(f"{'':16}{'MB':>6}{'decode':>8}{'mask':>7}{'resize':>8}{'all':>7}{'images/s':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (height, width) in SIZES.items():
            for suffix in (".jpg", ".png"):
                image, mask = drawn(Path(folder), name, height, width, suffix)
                dataset = dataset_of(image, mask)
                dataset.augmentations = resize
                pixels = read_image(image)
                steps: dict[str, Callable[[], Any]] = {
                    "decode": lambda image=image: read_image(image),
                    "mask": lambda image=image, mask=mask, size=(height, width): read_mask(mask, image, size),
                    "resize": lambda pixels=pixels: resize(pixels),
                    "all": lambda dataset=dataset: dataset[0],
                }
                taken = {step: milliseconds(call, options.repeats) for step, call in steps.items()}
                rate = 1000 / taken["all"]
                verdict = "enough" if rate >= NEEDED else "NOT ENOUGH"
                print(
                    f"{name:12}{suffix}{image.stat().st_size / 1e6:6.1f}{taken['decode']:8.1f}{taken['mask']:7.1f}"
                    f"{taken['resize']:8.1f}{taken['all']:7.1f}{rate:10.1f}  {verdict}"
                )
        print(f"taken up by one process: {taken_up(dataset):.0f} images/s")


def drawn(folder: Path, name: str, height: int, width: int, suffix: str) -> tuple[Path, Path]:
    """Draw an image with a defect and its mask."""
    picture = Recipe(0, max(height, width), "carpet", "test", "hole", 0).picture()
    noise = np.random.default_rng(0).normal(0, NOISE, (height, width, 3))
    pixels = (picture.image[:height, :width] + noise).round().clip(0, 255).astype(np.uint8)
    image, mask = folder / f"{name}{suffix}", folder / f"{name}_mask.png"
    Image.fromarray(pixels).save(image, **({"quality": 95} if suffix == ".jpg" else {}))
    Image.fromarray(picture.mask[:height, :width].astype(np.uint8) * 255).save(mask)
    return image, mask


def dataset_of(image: Path, mask: Path) -> CategoryDataset:
    """Make a dataset of one image for a training with soft masks, which read most."""
    row = {"image_path": str(image), "mask_path": str(mask), "label_index": int(LabelName.ABNORMAL), "split": "test"}
    dataset = CategoryDataset(pd.DataFrame([{**row, "category": "carpet"}]))
    dataset.soft_masks = SoftMask
    return dataset


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    """The processor's time for a call."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return 1000 * statistics.median(taken)


def taken_up(dataset: CategoryDataset, images: int = 64, batch_size: int = 8) -> float:
    """Images/s that a process could take up from workers, by its own time."""
    loader = DataLoader(
        dataset, batch_size=batch_size, sampler=[0] * images, num_workers=1, collate_fn=dataset.collate_fn
    )
    batches = iter(loader)
    next(batches)
    start = time.process_time()
    rest = sum(len(batch) for batch in batches)
    return rest / (time.process_time() - start)


if __name__ == "__main__":
    main()
