"""Speed and memory of KAnoCLIP beside the bare forward of open_clip's vision tower, as ratios in one run.

    python benchmarks/kano_clip.py                # ViT-L-14-336 at 518 px, random weights, batch 1, CPU
    python benchmarks/kano_clip.py --repeats 9
    python benchmarks/kano_clip.py --times bare inference "on features"    # of these cases, without the memory

Everything is measured in turn, repeats interleaved. Each ratio to the bare forward is taken within a repeat, and their
median is reported, of the time on the clock and of the processor's, which other processes disturb less. Peak memory is
that of a process of its own for each case, the weights (1.7 GB with the text tower) and libraries included.
"""

import argparse
import logging
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

SIZE = 518


def bare() -> Callable[[], object]:
    """open_clip's own vision tower at 518 px with OpenAI's activation."""
    import open_clip

    from anomalib_zsad.clip.layout import config_of

    config = config_of("ViT-L-14-336")
    config["vision_cfg"]["image_size"] = SIZE
    tower = open_clip.CLIP(**config, quick_gelu=True).eval()
    image = torch.randn(1, 3, SIZE, SIZE)
    return torch.no_grad()(lambda: tower.visual(image))


def inference(**arguments: object) -> Callable[[], object]:
    """One image of a known class."""
    model = _model(**arguments).model
    image = torch.randn(1, 3, SIZE, SIZE)
    return torch.no_grad()(lambda: model(image))


def inference_without_vv() -> Callable[[], object]:
    return inference(use_vv=False)


def bfloat16() -> Callable[[], object]:
    return inference(precision="bf16")


def training() -> Callable[[], object]:
    """One whole step: the vision tower, the text tower forward and backward, and Adam."""
    return _step(_model())


def on_ready_features() -> Callable[[], object]:
    """A step whose features of the frozen vision tower are there already, as from the second epoch on."""
    model = _model()
    with torch.no_grad():
        features = model.model.encode(torch.randn(1, 3, SIZE, SIZE))
    model.model.encode = lambda _: features
    return _step(model)


CASES = {
    "bare": bare,
    "inference": inference,
    "without V-V": inference_without_vv,
    "bfloat16": bfloat16,
    "training": training,
    "on features": on_ready_features,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--times", nargs="+", choices=CASES, help="measure the times of these cases only")
    parser.add_argument("--memory-of", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.memory_of:
        run = CASES[options.memory_of]()
        for _ in range(2):  # the second step has Adam's state
            run()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    # Memory first: a process starts with the peak of its parent.
    peaks = {} if options.times else {name: _peak(name) for name in CASES}
    _report(_times(options.times or list(CASES), options.repeats), peaks)


def _model(**arguments: object) -> Any:
    from anomalib_zsad import KAnoClip

    return KAnoClip(pretrained=None, image_size=SIZE, **arguments)


def _step(model: Any) -> Callable[[], object]:
    from anomalib_zsad.data.item import CategoryBatch

    optimizer = model.configure_optimizers()
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :100, :100] = 1
    image = torch.randn(1, 3, SIZE, SIZE)
    batch = CategoryBatch(image=image, gt_label=torch.tensor([1]), gt_mask=mask, category=["bottle"])

    def step() -> None:
        optimizer.zero_grad()
        model.loss_terms(batch)["loss"].backward()
        optimizer.step()

    return step


def _times(cases: list[str], repeats: int) -> list[dict[str, tuple[float, float]]]:
    runs = {name: CASES[name]() for name in dict.fromkeys(["bare", *cases])}
    for run in runs.values():
        run()
    return [{name: _seconds(run) for name, run in runs.items()} for _ in range(repeats)]


def _seconds(run: Callable[[], object]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def _peak(name: str) -> int:
    command = [sys.executable, "-W", "ignore", __file__, "--memory-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _report(taken: list[dict[str, tuple[float, float]]], peaks: dict[str, int]) -> None:
    def ratio(name: str, other: str, which: int) -> float:
        return statistics.median(each[name][which] / each[other][which] for each in taken)

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(taken)} repeats, medians")
    print(f"{'case':14}{'clock':>9}{'ratio':>8}{'processor':>11}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}")
    for name in taken[0]:
        clock, processor = (statistics.median(each[name][which] for each in taken) for which in (0, 1))
        times = f"{clock:7.2f} s{ratio(name, 'bare', 0):8.2f}{processor:9.2f} s{ratio(name, 'bare', 1):8.2f}"
        memory = f"{peaks[name]:10d}{peaks[name] / peaks['bare']:8.2f}" if peaks else ""
        print(f"{name:14}{times}{memory}")
    if {"training", "on features"} <= taken[0].keys():
        speedups = (ratio("training", "on features", which) for which in (0, 1))
        print("training / on features: clock {:.1f}, processor {:.1f}".format(*speedups))


if __name__ == "__main__":
    main()
