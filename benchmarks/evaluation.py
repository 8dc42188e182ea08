"""What evaluation costs on drawn maps: memory, seconds for taking up results and for the metrics, the part of AUPRO.

    python benchmarks/evaluation.py                          # 2000 images at 518 px, in one category and in fifteen
    python benchmarks/evaluation.py --images 200 --size 259
    python benchmarks/evaluation.py --forward 2.5            # beside a model that takes 2.5 s an image

Half of the images are anomalous, with one to four regions; no two scores of a map are equal, which is the most work.
Each case is measured in a process of its own. Its memory is the peak above what the process has with its libraries and
one batch of maps, before the first image is evaluated; drawing is not measured. Shares are of the processor's time,
which other processes disturb less than that on the clock. AUPRO is what it alone needs: connected
regions, its area and the sweep of its variant. "Cases" are the best and worst images that a benchmark keeps for its
pages of pictures.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

LIMIT = 2000
"""Of memory, in MB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=518, help="height and width of the maps in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--categories", type=int, nargs="+", default=[1, 15], help="a case for each number of them")
    parser.add_argument("--forward", type=float, help="seconds that a model takes for an image")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    sizes = [f"--{name}={getattr(options, name)}" for name in ("images", "size", "batch")]
    print(f"{options.images} images at {options.size} px, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for count in options.categories:
        command = [sys.executable, "-W", "ignore", __file__, *sizes, f"--case={count}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        report(count, options, json.loads(done.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate drawn results as a trainer would, and note what that takes."""
    from anomalib_zsad.benchmark.cases import CaseKeeper
    from anomalib_zsad.evaluation import ZeroShotEvaluator, pixel_scores
    from anomalib_zsad.evaluation.category_scores import CategoryScores
    from anomalib_zsad.functional.curves import DetectionCurve

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    taken: Counter[str] = Counter()
    for owner, name, what in (
        (CategoryScores, "result", "metrics"),
        (pixel_scores, "region_areas", "AUPRO"),
        (DetectionCurve, "_add_pro", "AUPRO"),
        (DetectionCurve, "_note_sweep", "AUPRO"),
    ):
        setattr(owner, name, timed(getattr(owner, name), what, taken))
    evaluator, keeper = ZeroShotEvaluator(), CaseKeeper()
    evaluator.watch = timed(keeper.add, "cases", taken)
    names = [f"category {number * options.case // options.images}" for number in range(options.images)]
    with tempfile.TemporaryDirectory() as folder:
        samples = SimpleNamespace(dataset=SimpleNamespace(samples=pd.DataFrame({"category": names})))
        trainer: Any = SimpleNamespace(
            test_dataloaders=samples, default_root_dir=folder, barebones=False, world_size=1, is_global_zero=True
        )
        model: Any = SimpleNamespace(log=lambda *_, **__: None)
        batch_end = timed(evaluator.on_test_batch_end, "all", taken)
        evaluator.on_test_epoch_start(trainer, model)
        baseline = 0
        for batch in drawn(names, options.size, options.batch):
            baseline = baseline or peak()
            batch_end(trainer, model, None, batch, 0)
        timed(evaluator.on_test_epoch_end, "all", taken)(trainer, model)
    table = evaluator.table
    assert table is not None
    return {**taken, "memory": peak() - baseline, "baseline": baseline, "binned": "binned" in " ".join(table["note"])}


def drawn(names: list[str], size: int, batch: int) -> Iterator[Any]:
    """Smooth random maps that are higher where the mask is, every second image without a defect."""
    from anomalib_zsad.data.item import CategoryBatch

    randoms = torch.Generator().manual_seed(0)
    for start in range(0, len(names), batch):
        own = names[start : start + batch]
        masks = torch.zeros(len(own), size, size, dtype=torch.bool)
        for number in range(1, len(own), 2):
            for _ in range(int(torch.randint(1, 5, (), generator=randoms))):
                top, left = (int(torch.randint(0, size * 3 // 4, (), generator=randoms)) for _ in range(2))
                masks[number, top : top + size // 8, left : left + size // 10] = True
        coarse = torch.randn(len(own), 1, 37, 37, generator=randoms)
        maps = (F.interpolate(coarse, size=(size, size), mode="bicubic") + 1.5 * masks[:, None]).sigmoid()
        yield CategoryBatch(
            image=torch.zeros(len(own), 3, 1, 1),
            image_path=[f"{name}/test/{start + number}.png" for number, name in enumerate(own)],
            gt_label=torch.arange(len(own)) % 2,
            gt_mask=masks,
            pred_score=maps.amax(dim=(1, 2, 3)),
            anomaly_map=maps,
            category=own,
        )


def timed(function: Any, what: str, taken: "Counter[str]") -> Any:
    """Add what a function takes to the seconds of `what`, on the clock and of the processor."""

    def call(*arguments: Any) -> Any:
        clock, processor = time.perf_counter(), time.process_time()
        try:
            return function(*arguments)
        finally:
            taken[f"{what}, clock"] += time.perf_counter() - clock  # type: ignore[assignment]
            taken[f"{what}, processor"] += time.process_time() - processor  # type: ignore[assignment]

    return call


def peak() -> int:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


def report(categories: int, options: argparse.Namespace, taken: dict[str, Any]) -> None:
    print(f"\n{categories} {'category' if categories == 1 else 'categories'}, pixels", end=" ")
    print("binned" if taken["binned"] else "exact")
    verdict = "under" if taken["memory"] < LIMIT else "NOT under"
    print(f"  memory {taken['memory']} MB above {taken['baseline']} MB, {verdict} {LIMIT} MB")
    for clock in ("clock", "processor"):
        seconds = {what: taken[f"{what}, {clock}"] for what in ("all", "metrics", "cases", "AUPRO")}
        seconds["update"] = seconds["all"] - seconds["metrics"] - seconds["cases"]
        for what in ("update", "metrics", "cases", "all", "AUPRO"):
            each, share = 1000 * seconds[what] / options.images, seconds[what] / seconds["all"]
            print(f"  {what:8}{seconds[what]:8.1f} s {each:7.1f} ms an image {share:6.0%}  {clock}")
        if options.forward:
            share = seconds["all"] / (seconds["all"] + options.forward * options.images)
            print(f"  {share:.1%} of a test whose forward takes {options.forward:g} s an image")


if __name__ == "__main__":
    main()
