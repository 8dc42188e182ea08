"""Promised and found rates of false alarms, and the defects found at them, after a calibration on normal images alone.

    python benchmarks/calibration.py                                  # drawn categories, three seeds
    python benchmarks/calibration.py --tiles datasets/MagneticTile    # and real magnetic tiles

AF-CLIP over the small CLIP is trained as in the demonstration and tested on categories it has never seen. The normal
images of a category are split at random, many times, in those that calibrate and those that are judged: a promise
holds on average over calibrations. "marked" is the share of normal images with any marked pixel, "seen" the share of
defective ones with one.
"""

import argparse
import logging
import warnings
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from anomalib.engine import Engine

from anomalib_zsad import AllCategories, MagneticTile, Synthetic
from anomalib_zsad.data.item import categories_of
from anomalib_zsad.functional.conformal import conformal_threshold
from anomalib_zsad.synthetic.demo import small_model
from anomalib_zsad.synthetic.drawing import SEEN, UNSEEN

RATES = (0.01, 0.05, 0.1)
Scores = dict[str, dict[bool, np.ndarray]]  # by category and label: (n, 2), image score and maximum of the map


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tiles", type=Path, help="root of the magnetic tiles")
    parser.add_argument("--categories", type=int, default=5, help="unseen drawn categories")
    parser.add_argument("--normal", type=int, default=100, help="normal images of a category that calibrate")
    parser.add_argument("--splits", type=int, default=100, help="random splits")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        new = measure(seed, options)
        print(pd.DataFrame(new).to_string(header=not rows, index=False), flush=True)
        rows += new
    table = pd.DataFrame(rows).drop(columns=["seed", "images"]).groupby(["tested on", "promised"], sort=False)
    print(table.agg(["mean", "std"]).round(3).to_string())


def measure(seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        target = Synthetic(
            None,
            categories=SEEN[:1],
            target_categories=UNSEEN[: options.categories],
            test_good=2 * options.normal,
            test_defective=8,
            num_workers=0,
            eval_batch_size=16,
            seed=seed,
        )
        model = small_model(seed, options.epochs)
        engine = Engine(default_root_dir=folder, accelerator="cpu", devices=1, logger=False)
        engine.fit(model, datamodule=Synthetic(None, test_good=10, test_defective=2, num_workers=0, seed=seed))
        model.visualizer = None
        rows = of_scores("drawn, unseen", scored(model, target, folder), seed, options)
        if options.tiles:
            tiles = AllCategories(MagneticTile(options.tiles), eval_batch_size=16, num_workers=0)
            rows += of_scores("magnetic tiles", scored(model, tiles, folder), seed, options)
    return rows


def scored(model: Any, data: Any, folder: str) -> Scores:
    """Score every test image once, before thresholds are applied."""
    model.post_processor.enable_normalization = model.post_processor.enable_thresholding = False
    engine = Engine(default_root_dir=folder, accelerator="cpu", devices=1, logger=False)
    collected: defaultdict[str, dict[bool, list]] = defaultdict(lambda: {False: [], True: []})
    for batch in engine.predict(model, datamodule=data) or []:
        maxima = batch.anomaly_map.flatten(1).amax(1).tolist()
        entries = zip(categories_of(batch), batch.gt_label.tolist(), batch.pred_score.tolist(), maxima, strict=True)
        for category, label, score, maximum in entries:
            collected[category][bool(label)].append((score, maximum))
    return {category: {label: np.array(s) for label, s in sides.items()} for category, sides in collected.items()}


def of_scores(name: str, scores: Scores, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Calibrate on random halves of the normal images of every category, and judge the rest."""
    generator, rows = np.random.default_rng(seed), []
    for rate in RATES:
        figures = [
            figures_of(side[False][generator.permutation(len(side[False]))], side[True], rate, options.normal)
            for side in scores.values()
            for _ in range(options.splits)
        ]
        means = dict(zip(("false alarms", "marked", "found", "seen"), np.mean(figures, axis=0).round(4), strict=True))
        images = sum(len(side[False]) + len(side[True]) for side in scores.values())
        rows.append({"tested on": name, "seed": seed, "images": images, "promised": rate, **means})
    return rows


def figures_of(normal: np.ndarray, defective: np.ndarray, rate: float, n_calibration: int) -> tuple[float, ...]:
    """Return the shares of normal and of defective images beyond both thresholds."""
    limits = [conformal_threshold(column, rate) for column in normal[:n_calibration].T]
    (alarms, marked), (found, seen) = ((side > limits).mean(0) for side in (normal[n_calibration:], defective))
    return alarms, marked, found, seen


if __name__ == "__main__":
    main()
