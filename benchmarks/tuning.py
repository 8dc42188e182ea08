"""What the ways of fine-tuning in table 5 of the AF-CLIP paper cost: parameters, training memory, seconds and FLOPs.

python benchmarks/tuning.py                                     # the small CLIP of the package at 168 px
python benchmarks/tuning.py --backbone ViT-L-14-336 --size 518  # the paper's size, random weights

One image at a time, on a GPU where there is one. The memory is what two training steps need beyond the peak of scoring:
of tensors on a GPU, of the whole process elsewhere, where libraries blur it. FLOPs are of scoring, a multiplication and
an addition counted as two. Each row is measured in a process of its own.
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

TUNINGS = ("prompt", "prefix", "lora", "adaptor")


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="zsad-tiny")
    parser.add_argument("--size", type=int, default=168, help="height and width in pixels (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--row", choices=TUNINGS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.row:
        print(json.dumps(measured(options.row, options.backbone, options.size, options.repeats)))
        return
    print(f"{options.backbone}, {options.size} px, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'tuning':10}{'parameters':>12}{'training MiB':>14}{'training s':>12}{'inference s':>13}{'GFLOPs':>10}")
    for row in TUNINGS:
        command = [sys.executable, "-W", "ignore", __file__, "--row", row]
        command += ["--backbone", options.backbone, "--size", str(options.size), "--repeats", str(options.repeats)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print("{tuning:10}{parameters:12d}{memory:14.0f}{training:12.3f}{inference:13.3f}{flops:10.3f}".format(**found))


def measured(tuning: str, backbone: str, size: int, repeats: int) -> dict[str, Any]:
    """Measure one row."""
    from anomalib_zsad import AFClip
    from anomalib_zsad.data.item import CategoryBatch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pretrained = "openai" if backbone == "zsad-tiny" else None
    model: Any = AFClip(backbone, pretrained, image_size=size, tuning=tuning).to(device)
    mask = torch.zeros(1, size, size, device=device)
    mask[:, : size // 5, : size // 5] = 1
    label, image = torch.tensor([1], device=device), torch.randn(1, 3, size, size, device=device)
    batch = CategoryBatch(image=image, gt_label=label, gt_mask=mask)
    optimizer = model.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        model.loss_terms(batch)["loss"].backward()
        optimizer.step()

    @torch.no_grad()
    def score() -> None:
        model.model(image)

    score()
    before = _peak(device)
    for _ in range(2):  # the second step has Adam's state
        step()
    memory = _peak(device) - before
    with FlopCounterMode(display=False) as counter:
        score()
    learnt = sum(each.numel() for each in model.parameters() if each.requires_grad)
    return {
        "tuning": tuning,
        "parameters": learnt,
        "memory": memory,
        "training": _seconds(step, repeats, device),
        "inference": _seconds(score, repeats, device),
        "flops": counter.get_total_flops() / 1e9,
    }


def _peak(device: torch.device) -> float:  # MiB
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _seconds(run: Any, repeats: int, device: torch.device) -> float:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
