"""Time and memory of ACD-CLIP at full size: ViT-L/14, 518 px, batch 1, untrained weights, on the CPU.

    python benchmarks/acd_clip.py          # memory, then ratios to the bare forward pass of the vision tower
    python benchmarks/acd_clip.py memory   # memory only

Times are interleaved with those of open_clip's own forward pass in one process, and each ratio is the median over the
rounds, once of the time on the clock and once of the processor's, which other processes disturb less. Memory is the
peak of a process of its own, the weights (1.7 GB with the text tower) and libraries included.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import open_clip
import torch
from anomalib.data import ImageBatch

from anomalib_zsad.clip.layout import config_of
from anomalib_zsad.models.acd_clip import ACDClip

BACKBONE, SIZE = "ViT-L-14-336", 518
MEASURED = ("bare", "inference", "training", "training with checkpointing")


def bare_forward() -> Callable[[], Any]:
    """open_clip's own vision tower at 518 px with plain GELU."""
    config = config_of(BACKBONE)
    config["vision_cfg"]["image_size"] = SIZE
    clip = open_clip.CLIP(**config).eval()
    images = torch.randn(1, 3, SIZE, SIZE)
    return torch.no_grad()(lambda: clip.visual(images))


def inference(model: ACDClip) -> Callable[[], Any]:
    """One image of a known class."""
    images = torch.randn(1, 3, SIZE, SIZE)
    return torch.no_grad()(lambda: model.model(images))


def training(model: ACDClip) -> Callable[[], Any]:
    """One whole step: both towers forward and backward, and Adam."""
    optimizer = model.configure_optimizers()["optimizer"]
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :200, :200] = 1

    def step() -> None:
        optimizer.zero_grad()
        batch = ImageBatch(image=torch.randn(1, 3, SIZE, SIZE), gt_label=torch.tensor([1]), gt_mask=mask)
        model.loss_terms(batch)["loss"].backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()

    return step


def build(name: str) -> Callable[[], Any]:
    if name == "bare":
        return bare_forward()
    model = ACDClip(BACKBONE, pretrained=None, image_size=SIZE, gradient_checkpointing="checkpointing" in name)
    return inference(model) if name == "inference" else training(model)


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def compare(rounds: int) -> None:
    runs = {name: build(name) for name in MEASURED}
    for run in runs.values():
        run()
    taken = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds)]
    for name in MEASURED:
        of_clock, of_processor = ([each[name][i] / each["bare"][i] for each in taken] for i in (0, 1))
        print(
            f"{name:28} {statistics.median(each[name][0] for each in taken):6.2f} s   "
            f"clock {statistics.median(of_clock):5.2f} x ({min(of_clock):.2f} to {max(of_clock):.2f})   "
            f"processor {statistics.median(of_processor):5.2f} x ({min(of_processor):.2f} to {max(of_processor):.2f})",
            flush=True,
        )


def peak(name: str) -> None:
    run = build(name)
    for _ in range(2):  # the second step has Adam's state
        run()
    print(f"{name:28} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:6.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "memory", *MEASURED])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.what in MEASURED:
        peak(options.what)
        return
    print("peak memory", flush=True)
    for name in MEASURED:  # first: a process starts with the peak of the one that starts it
        subprocess.run([sys.executable, __file__, name], check=True)
    if options.what == "all":
        compare(options.rounds)


if __name__ == "__main__":
    main()
