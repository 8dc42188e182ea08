"""What tiles find, and what they cost: small defects in large drawn scenes.

    python benchmarks/tiling.py                  # detection, three seeds; time and memory
    python benchmarks/tiling.py --seeds 0 --scenes 4 --categories coin --costs 0

A scene is a tray of drawn parts of a category that nothing was trained on, 1024 px on a side; on half of them one part
has a defect of 0.05 to 0.5 % of the scene. AF-CLIP over the small CLIP, trained as in the demonstration, scores each
scene as a whole (168 and 672 px), in tiles of 168 px at 672 px, and in tiles at the scene's own size. Maps are brought
to 1024 px before they are compared with the mask. Time is the processor's; memory is what a process of its own takes
above what it had before it scored.
"""

import argparse
import logging
import os
import resource
import time
import warnings
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from anomalib.engine import Engine
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad import AFClip, Synthetic
from anomalib_zsad.data.reading import image_of
from anomalib_zsad.evaluation.category_scores import CategoryScores
from anomalib_zsad.evaluation.scored_image import ScoredImage
from anomalib_zsad.evaluation.table import mean_values, results_table
from anomalib_zsad.models.parts.tiling import views_of
from anomalib_zsad.synthetic.demo import small_model
from anomalib_zsad.synthetic.drawing import CATEGORIES, SEEN, draw

TILE = 168
SETTINGS: dict[str, dict[str, Any]] = {
    "whole, 168 px": {},
    "whole, 672 px": {"image_size": 672},
    "tiles at 672 px": {"tile": TILE, "image_size": 672},
    "tiles at 1024 px": {"tile": TILE},
}
METRICS = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")
SHARES = (0.0005, 0.005)
"""Of a scene, the least and the most that its defect covers."""
SIDE, PARTS = 1024, 4
"""Pixels of a scene, and parts along a side of it."""
COSTS = ((168, 8), (504, 8), (1024, 1), (1024, 8), (1024, 64), (2048, 8))
"""Sides of images and tiles at a time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--categories", nargs="+", default=["leather", "biscuit", "coin"])
    parser.add_argument("--scenes", type=int, default=8, help="of a category, half of them with a defect")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--costs", type=int, default=3, help="repeats of the measurement of time; 0 for none")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for seed in options.seeds:
            weights = trained(seed, options.epochs, Path(folder))
            new = detection(weights, seed, options.categories, options.scenes)
            print(pd.DataFrame(new).to_string(header=not rows, index=False), flush=True)
            rows += new
        table = pd.DataFrame(rows).drop(columns="seed").groupby("scored", sort=False)
        print(table.agg(["mean", "std"]).round(3).to_string(), flush=True)
        if options.costs:
            print(pd.DataFrame(costs(weights, options.costs)).to_string(index=False))
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


def trained(seed: int, epochs: int, folder: Path) -> Path:
    """Train without tiles; they are chosen when the weights are used."""
    model, path = small_model(seed, epochs), folder / f"{seed}.safetensors"
    engine = Engine(default_root_dir=folder, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    engine.fit(model, datamodule=Synthetic(None, SEEN, test_good=10, test_defective=2, num_workers=0, seed=seed))
    model.save_weights(path)
    return path


def detection(weights: Path, seed: int, categories: list[str], scenes: int) -> list[dict[str, Any]]:
    """Score the scenes of a seed in every way."""
    models = {name: raw_model(weights, **options) for name, options in SETTINGS.items()}
    scores: dict[str, defaultdict[str, CategoryScores]] = {name: defaultdict(CategoryScores) for name in models}
    for category in categories:
        for number in range(scenes):
            image, mask = scene(category, number, seed, is_defective=number % 2 == 1)
            for name, model in models.items():
                with torch.no_grad():
                    result = model(image[None])
                maps = F.interpolate(result.anomaly_map, mask.shape, mode="bilinear", align_corners=False)[0, 0]
                score = ScoredImage("", float(result.pred_score), bool(mask.any()), maps.numpy(), mask)
                scores[name][category].add(score)
    means = {name: mean_values(results_table({c: s.result() for c, s in own.items()})) for name, own in scores.items()}
    return [{"scored": name, "seed": seed, **{m: round(each[m], 4) for m in METRICS}} for name, each in means.items()]


def raw_model(weights: Path, **options: Any) -> AFClip:
    return AFClip(weights=weights, post_processor=False, **options).eval()


def scene(category: str, number: int, seed: int, *, is_defective: bool) -> tuple[Tensor, np.ndarray]:
    """Lay parts on a tray, one of them with a small defect: (3, H, W) in [0, 1] and (H, W)."""
    generator = np.random.default_rng([seed, number, *category.encode()])
    parts = [draw(category, int(each), None, SIDE // PARTS) for each in generator.integers(2**31, size=PARTS**2)]
    kinds = sorted(CATEGORIES[category].defects)
    while is_defective:
        part = draw(category, int(generator.integers(2**31)), str(generator.choice(kinds)), SIDE // PARTS)
        if SHARES[0] <= part.mask.mean() / PARTS**2 <= SHARES[1]:
            parts[generator.integers(PARTS**2)] = part
            break
    image, mask = (
        np.concatenate([np.concatenate(pieces[row * PARTS : (row + 1) * PARTS], axis=1) for row in range(PARTS)])
        for pieces in ([part.image for part in parts], [part.mask for part in parts])
    )
    return image_of(image), mask > 0


def costs(weights: Path, repeats: int) -> list[dict[str, Any]]:
    """Measure time and memory, in turn."""
    models = {each: raw_model(weights, tile=TILE, tile_batch=each) for each in {batch for _, batch in COSTS}}
    images = {side: torch.rand(1, 3, side, side) for side, _ in COSTS}
    seconds: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in range(repeats):
        for side, batch in COSTS:
            start = time.process_time()
            score(models[batch], images[side])
            seconds[side, batch].append(time.process_time() - start)
    return [
        {
            "side": side,
            "tiles": len(list(views_of(images[side], models[batch].model.tiler))) - 1,
            "at a time": batch,
            "seconds": round(float(np.median(seconds[side, batch])), 3),
            "MB": peak_of(models[batch], images[side]),
        }
        for side, batch in COSTS
    ]


@torch.no_grad()
def score(model: AFClip, image: Tensor) -> None:
    model(image)


def peak_of(model: AFClip, image: Tensor) -> int:
    """Score in a process of its own, and tell by how many MB its memory grew."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        torch.set_num_threads(1)  # those of the parent are not there
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        score(model, image)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, str(grown // 1024).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reading, 64))


if __name__ == "__main__":
    main()
