"""Speed and memory of WMoE-CLIP beside the bare forward of open_clip's vision tower, as ratios in one run.

    python benchmarks/wmoe_clip.py                # ViT-L-14-336 at 518 px, random weights, batch 1, CPU
    python benchmarks/wmoe_clip.py --repeats 9

Everything is measured in turn, repeats interleaved, and medians are compared: machines are noisy. Peak memory is that
of a process of its own for each case. "features" is a training step whose frozen features are ready, as they are where
epochs repeat them.
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
from types import SimpleNamespace

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
    model = _model(**arguments).model
    image = torch.randn(1, 3, SIZE, SIZE)
    return torch.no_grad()(lambda: model(image))


def bfloat16() -> Callable[[], object]:
    return inference(precision="bf16")


def training() -> Callable[[], object]:
    return _step(ready=False)


def features() -> Callable[[], object]:
    return _step(ready=True)


CASES = {"bare": bare, "inference": inference, "bfloat16": bfloat16, "training": training, "features": features}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.memory_of:
        CASES[options.memory_of]()()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    peaks = {name: _peak(name) for name in CASES}  # first: a process starts with the peak of its parent
    _report(_times(options.repeats), peaks)


def _model(**arguments: object) -> object:
    from anomalib_zsad import WMoEClip

    return WMoEClip(pretrained=None, image_size=SIZE, **arguments)


def _step(ready: bool) -> Callable[[], object]:
    model = _model()
    optimizer = model.configure_optimizers()
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :100, :100] = 1
    batch = SimpleNamespace(image=torch.randn(1, 3, SIZE, SIZE), gt_label=torch.ones(1), gt_mask=mask)
    if ready:
        with torch.no_grad():
            kept = model.model.encode(batch.image)
        model.model.encode = lambda _: kept

    def step() -> None:
        optimizer.zero_grad()
        model.loss_terms(batch)["loss"].backward()
        optimizer.step()

    return step


def _times(repeats: int) -> dict[str, list[float]]:
    runs = {name: case() for name, case in CASES.items()}
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _peak(name: str) -> int:
    command = [sys.executable, "-W", "ignore", __file__, "--memory-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _report(seconds: dict[str, list[float]], peaks: dict[str, int]) -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(seconds['bare'])} repeats, medians")
    print(f"{'case':12}{'seconds':>9}{'ratio':>8}{'peak MiB':>10}{'ratio':>8}")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        time_ratio, memory_ratio = median / medians["bare"], peaks[name] / peaks["bare"]
        print(f"{name:12}{median:9.2f}{time_ratio:8.2f}{peaks[name]:10d}{memory_ratio:8.2f}")
    print(f"bfloat16 / fp32: {medians['bfloat16'] / medians['inference']:.2f}")
    print(f"training step / the same on ready features: {medians['training'] / medians['features']:.1f}")


if __name__ == "__main__":
    main()
