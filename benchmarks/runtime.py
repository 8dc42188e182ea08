"""What `runtime` brings: seconds of an image with the vision tower in OpenVINO and in ONNX Runtime, beside PyTorch.

    python benchmarks/runtime.py                  # AF-CLIP, ViT-L-14-336 at 518 px, random weights, batch 1, CPU
    python benchmarks/runtime.py --method ACDClip --runtimes openvino --repeats 9

One model in one process, with the same image: its tower is exchanged. Repeats are interleaved, the ratio to PyTorch is
taken within each, and the median is reported, of the time on the clock and of the processor's, which other processes
disturb less; beside it the processor's seconds that the graph takes once, and the largest difference of score and map.
The limit for OpenVINO, 0.55, is for processors of which PyTorch leaves half unused: it depends on their instructions.
"""

import argparse
import logging
import statistics
import time
import warnings
from typing import Any

import torch

SIZE, LIMIT = 518, 0.55
METHODS = ["AFClip", "ACDClip", "AnomalyClip", "ClipZeroShot", "KAnoClip", "WMoEClip"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--method",
        default="AFClip",
        choices=["AFClip", "ACDClip", "AnomalyClip", "ClipZeroShot", "KAnoClip", "WMoEClip"],
    )
    parser.add_argument("--backbone", default="ViT-L-14-336")
    parser.add_argument("--runtimes", nargs="+", default=["openvino", "onnx"], choices=["openvino", "onnx"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    measure(options.method, options.backbone, options.runtimes, options.repeats)


@torch.no_grad()
def measure(method: str, backbone: str, runtimes: list[str], repeats: int) -> None:
    import anomalib_zsad
    from anomalib_zsad.models.parts.runtime import TowerGraph

    model = getattr(anomalib_zsad, method)(backbone, pretrained=None, image_size=SIZE).eval().model
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    towers = {"torch": None, **{name: TowerGraph(name) for name in runtimes}}

    def score(name: str) -> tuple[Any, tuple[float, float]]:
        model.encoder.tower = towers[name]
        clock, processor = time.perf_counter(), time.process_time()
        return model(image), (time.perf_counter() - clock, time.process_time() - processor)

    first = {name: score(name) for name in towers}
    taken = [{name: score(name)[1] for name in towers} for _ in range(repeats)]
    instructions = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {instructions}, {torch.get_num_threads()} threads, {repeats} repeats, medians")
    print(f"{'tower':10}{'clock':>9}{'ratio':>8}{'processor':>11}{'ratio':>8}{'graph':>9}{'score':>10}{'map':>10}")
    for name, (found, seconds) in first.items():
        clock, processor = (statistics.median(each[name][which] for each in taken) for which in (0, 1))
        ratios = [statistics.median(each[name][which] / each["torch"][which] for each in taken) for which in (0, 1)]
        made = 0.0 if towers[name] is None else max(seconds[1] - processor, 0.0)
        apart = [
            (getattr(found, field) - getattr(first["torch"][0], field)).abs().max().item()
            for field in ("pred_score", "anomaly_map")
        ]
        times = f"{clock:7.2f} s{ratios[0]:8.2f}{processor:9.2f} s{ratios[1]:8.2f}{made:7.1f} s"
        print(f"{name:10}{times}{apart[0]:10.1e}{apart[1]:10.1e}")
        if name == "openvino":
            print(f"openvino / torch: {ratios[0]:.2f}, at most {LIMIT}: {'kept' if ratios[0] <= LIMIT else 'NOT KEPT'}")


if __name__ == "__main__":
    main()
