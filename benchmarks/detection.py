"""What the methods detect over the small CLIP, on drawn categories that nothing was trained on.

    python benchmarks/detection.py                                   # all methods, three seeds
    python benchmarks/detection.py --pretrained none                 # over a small CLIP that learnt nothing
    python benchmarks/detection.py --tiles datasets/MagneticTile     # and on real magnetic tiles
    python benchmarks/detection.py --methods AF-CLIP --seeds 0 --quantised

Settings are those of configs/benchmark/demo.yaml. Every line is the mean over the tested categories, never pooled.
With --quantised, what OpenVINO scores in floats and in eight bits is compared (INT8 stores weights in eight bits,
INT8_PTQ also computes in them, calibrated on validation images of the training categories).
"""

import argparse
import logging
import time
import warnings
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.deploy import CompressionType
from anomalib.engine import Engine
from torch.nn import functional as F

from anomalib_zsad import MagneticTile
from anomalib_zsad.benchmark.config_file import read_benchmark
from anomalib_zsad.benchmark.grid import Benchmark, Cell, build_model
from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.evaluation.category_scores import CategoryScores
from anomalib_zsad.evaluation.scored_image import ScoredImage
from anomalib_zsad.evaluation.table import mean_values, results_table

CONFIG = Path(__file__).parents[1] / "configs" / "benchmark" / "demo.yaml"
METRICS = ("pixel_AUROC", "pixel_AUPRO", "image_AUROC")
OPENVINO = {"OpenVINO": None, "INT8": CompressionType.INT8, "INT8_PTQ": CompressionType.INT8_PTQ}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", help="names in the configuration; all methods of this package if left")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pretrained", default="embedded", help="embedded, none, or a file with weights")
    parser.add_argument("--tiles", type=Path, help="root of the magnetic tiles, to test on too")
    parser.add_argument("--into", type=Path, help="keep trainings and results in this folder")
    parser.add_argument("--quantised", action="store_true", help="compare OpenVINO's precisions too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    benchmark = read_benchmark(CONFIG)
    methods = options.methods or [
        name for name, entry in benchmark.models.items() if entry.is_zero_shot and not entry.members
    ]
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as temporary:
        for method in methods:
            for seed in options.seeds:
                folder = (options.into or Path(temporary)) / method / f"seed_{seed}"
                new = measure(benchmark, method, seed, options, folder)
                print(pd.DataFrame(new).to_string(header=not rows, index=False), flush=True)
                rows += new
    table = pd.DataFrame(rows).drop(columns="seed").groupby(["method", "tested on"], sort=False)
    print(table.agg(["mean", "std"]).round(3).T.to_string())


def measure(
    benchmark: Benchmark, method: str, seed: int, options: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    pretrained = {"embedded": {}, "none": {"pretrained": None}}.get(
        options.pretrained, {"pretrained": options.pretrained}
    )
    entry, start = benchmark.models[method], time.monotonic()
    entry.init_args.update(pretrained)
    model = build_model(entry, Cell(method, "", None, None, seed), visualizer=False)
    data = benchmark.protocols[0].auxiliary.build(AnomalibDataModule)
    engine = Engine(default_root_dir=folder, accelerator="cpu", devices=1, logger=False)
    engine.train(model, datamodule=data)
    minutes = (time.monotonic() - start) / 60
    rows = [row(method, seed, "unseen categories", model.evaluator.table, minutes)]
    if options.tiles:
        engine.test(model, datamodule=AllCategories(MagneticTile(options.tiles), eval_batch_size=8, num_workers=0))
        rows.append(row(method, seed, "magnetic tiles", model.evaluator.table))
    if options.quantised:
        rows += [
            row(method, seed, f"unseen categories, {name}", in_openvino(model, data, kind, folder / name))
            for name, kind in OPENVINO.items()
        ]
    return rows


def row(method: str, seed: int, tested: str, table: pd.DataFrame, minutes: float = float("nan")) -> dict[str, Any]:
    means = mean_values(table)
    figures = {name: round(means[name], 4) for name in METRICS}
    return {"method": method, "seed": seed, "tested on": tested, **figures, "minutes": round(minutes, 2)}


def in_openvino(model: Any, data: Any, compression: CompressionType | None, folder: Path) -> pd.DataFrame:
    """Score the test images with an exported model."""
    import openvino

    batches = list(data.test_dataloader())
    size = tuple(batches[0].image.shape[-2:])
    path = model.to_openvino(folder, input_size=size, compression_type=compression, datamodule=data)
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    categories: defaultdict[str, CategoryScores] = defaultdict(CategoryScores)
    for batch in batches:
        for item, category in zip(batch, batch.category, strict=True):
            outputs = network({0: item.image[None].numpy()})
            score, maps = outputs["pred_score"].item(), outputs["anomaly_map"].squeeze()
            mask = F.interpolate(item.gt_mask[None, None].float(), maps.shape)[0, 0].bool().numpy()
            categories[category].add(ScoredImage(item.image_path, score, bool(item.gt_label), maps, mask))
    return results_table({name: each.result() for name, each in categories.items()})


if __name__ == "__main__":
    main()
