"""What the benchmarks of the methods share: cases beside the bare forward of CLIP's vision tower, in one run.

Everything is measured in turn, repeats interleaved: machines are noisy. Each ratio to the bare forward is taken within
a repeat, and their median is reported, of the time on the clock and of the processor's, which other processes disturb
less. Peak memory is that of a process of its own for each case, the weights (1.7 GB of ViT-L with its text tower) and
libraries included.
"""

import argparse
import logging
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch

BACKBONE = "ViT-L-14-336"

Run = Callable[[], object]
Case = Callable[[str], Run]
"""Prepares what is measured, for a backbone."""
Taken = list[dict[str, tuple[float, float]]]
"""Of every repeat, the seconds of every case: on the clock, and of the processor."""


def bare(backbone: str, quick_gelu: bool = True) -> Run:
    """A forward of open_clip's own vision tower."""
    image = image_for(backbone)
    tower = bare_tower(backbone, image.shape[-1], quick_gelu)
    return torch.no_grad()(lambda: tower(image))


def bare_tower(backbone: str, size: int, quick_gelu: bool = True) -> torch.nn.Module:
    """Build open_clip's own vision tower for square images of a size."""
    import open_clip

    from anomalib_zsad.clip.named import config_of

    config = config_of(backbone)
    config["vision_cfg"]["image_size"] = size
    return open_clip.CLIP(**config, quick_gelu=quick_gelu).eval().visual


def image_for(backbone: str) -> torch.Tensor:  # (1, 3, H, W)
    """Draw an image of the backbone's default size, the multiple of its patch size nearest to 518 px."""
    from anomalib_zsad.clip.named import default_size

    size = default_size(backbone)
    return torch.randn(1, 3, size, size)


def inference(model: Any) -> Run:
    """Score one image."""
    image = image_for(model.hparams["backbone"])
    return torch.no_grad()(lambda: model.model(image))


def training(model: Any) -> Run:
    """One whole step: features, losses, backward pass and optimiser."""
    from anomalib_zsad.data.item import CategoryBatch

    configured = model.configure_optimizers()
    optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
    image = image_for(model.hparams["backbone"])
    mask = torch.zeros(1, *image.shape[-2:])
    mask[:, :100, :100] = 1
    batch = CategoryBatch(image=image, gt_label=torch.tensor([1]), gt_mask=mask, category=["bottle"])

    def step() -> None:
        optimizer.zero_grad()
        model.loss_terms(batch)["loss"].backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()

    return step


def training_on_features(model: Any) -> Run:
    """A step whose features of the frozen backbone are there already, as from the second epoch on."""
    with torch.no_grad():
        features = model.model.encoder(image_for(model.hparams["backbone"]))
    model.model.encoder.forward = lambda _: features
    return training(model)


def median_ratio(taken: Taken, name: str, other: str, which: int = 0) -> float:
    """Compare two cases within each repeat: on the clock (0), or of the processor (1)."""
    return statistics.median(each[name][which] / each[other][which] for each in taken)


def main(
    description: str,
    script: str,
    cases: dict[str, Case],
    conclude: Callable[[Taken, dict[str, int]], Iterable[str]] = lambda _, __: (),
    limits: dict[str, float] | None = None,
) -> None:
    """Measure memory and times of cases, of which one is called "bare".

    Args:
        description: Of the benchmark.
        script: Its file.
        cases: What to measure.
        conclude: Lines to print under the table, from times and peaks of memory in MiB (none where only times are
            measured).
        limits: By case, how many times the bare forward's time on the clock is allowed.
    """
    parser = argparse.ArgumentParser(
        description=f"{description}\n{__doc__}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--times", nargs="+", choices=cases, help="measure the times of these cases only")
    parser.add_argument("--memory-of", choices=cases, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.memory_of:
        run = cases[options.memory_of](options.backbone)
        for _ in range(2):  # the second step has Adam's state
            run()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    # Memory first: a process starts with the peak of its parent.
    peaks = {} if options.times else {name: _peak(script, name, options.backbone) for name in cases}
    runs = {name: cases[name](options.backbone) for name in dict.fromkeys(["bare", *(options.times or cases)])}
    for run in runs.values():
        run()
    taken = [{name: _seconds(run) for name, run in runs.items()} for _ in range(options.repeats)]
    _report(taken, peaks)
    for name, limit in (limits or {}).items():
        if name in runs:
            ratio = median_ratio(taken, name, "bare")
            print(f"{name} / bare: {ratio:.2f}, at most {limit}: {'kept' if ratio <= limit else 'NOT KEPT'}")
    print(*conclude(taken, peaks), sep="\n")


def _peak(script: str, name: str, backbone: str) -> int:
    command = [sys.executable, "-W", "ignore", script, "--backbone", backbone, "--memory-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _seconds(run: Run) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def _report(taken: Taken, peaks: dict[str, int]) -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(taken)} repeats, medians")
    print(f"{'case':20}{'clock':>9}{'ratio':>8}{'processor':>11}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}")
    for name in taken[0]:
        clock, processor = (statistics.median(each[name][which] for each in taken) for which in (0, 1))
        ratios = [median_ratio(taken, name, "bare", which) for which in (0, 1)]
        memory = f"{peaks[name]:10d}{peaks[name] / peaks['bare']:8.2f}" if peaks else ""
        print(f"{name:20}{clock:7.2f} s{ratios[0]:8.2f}{processor:9.2f} s{ratios[1]:8.2f}{memory}")
