"""Time, memory, file sizes and latency of an exported method beside PyTorch, in one run.

    python benchmarks/export.py                # AF-CLIP, ViT-L-14-336 at 518 px, random weights, batch 1, CPU
    python benchmarks/export.py --method WMoEClip --repeats 9

Every export runs in a process of its own, whose peak memory is reported. Latencies are then measured in turn, repeats
interleaved, and medians are compared: machines are noisy. INT8 is calibrated on drawn pictures, for its speed; it says
nothing about accuracy.
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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from anomalib.deploy import CompressionType

SIZE = 518
LARGE = (1000, 1400)
F32 = {"INFERENCE_PRECISION_HINT": "f32"}


def build(method: str, backbone: str) -> Any:
    import anomalib_zsad

    model = getattr(anomalib_zsad, method)(backbone, pretrained=None, image_size=SIZE).eval()
    model.trained_on = ["nothing"]
    return model


def to_torch(model: Any, folder: Path) -> Path:
    return model.to_torch(folder)


def to_onnx(model: Any, folder: Path) -> Path:
    return model.to_onnx(folder, input_size=(SIZE, SIZE))


def to_onnx_of_any_size(model: Any, folder: Path) -> Path:
    return model.to_onnx(folder)


def to_openvino(model: Any, folder: Path) -> Path:
    return model.to_openvino(folder, input_size=(SIZE, SIZE))


def to_openvino_fp16(model: Any, folder: Path) -> Path:
    return model.to_openvino(folder, input_size=(SIZE, SIZE), compression_type=CompressionType.FP16)


def to_openvino_int8(model: Any, folder: Path) -> Path:
    from anomalib_zsad import Synthetic

    data = Synthetic(None, ["cloth", "gear", "plate"], test_good=4, test_defective=1, val_ratio=0.2, num_workers=0)
    return model.to_openvino(
        folder, input_size=(SIZE, SIZE), compression_type=CompressionType.INT8_PTQ, datamodule=data
    )


EXPORTS: dict[str, Callable[[Any, Path], Path]] = {
    "torch": to_torch,
    "onnx": to_onnx,
    "onnx-any": to_onnx_of_any_size,
    "openvino": to_openvino,
    "openvino-fp16": to_openvino_fp16,
    "openvino-int8": to_openvino_int8,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--method", default="AFClip", choices=["AFClip", "ACDClip", "AnomalyClip", "KAnoClip", "WMoEClip"]
    )
    parser.add_argument("--backbone", default="ViT-L-14-336")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--into", type=Path, help="keep the exported files in this folder, and use those that are there"
    )
    parser.add_argument("--export", choices=EXPORTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.export:
        export_one(options.export, options.method, options.backbone, options.into)
    else:
        with TemporaryDirectory() as temporary:
            measure(options.method, options.backbone, options.repeats, options.into or Path(temporary))


def measure(method: str, backbone: str, repeats: int, folder: Path) -> None:
    for name in EXPORTS:
        if not (folder / name).exists():
            what = ["--method", method, "--backbone", backbone, "--into", str(folder), "--export", name]
            done = subprocess.run([sys.executable, __file__, *what], check=True, capture_output=True, text=True)
            print(done.stdout.splitlines()[-1], flush=True)
    runners = latency_runners(method, backbone, folder)
    times: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():
        runner()
    for _ in range(repeats):
        for name, runner in runners.items():
            start = time.perf_counter()
            runner()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:34} {median * 1000:7.0f} ms   {medians['PyTorch fp32'] / median:5.2f} x")


def export_one(name: str, method: str, backbone: str, into: Path) -> None:
    model = build(method, backbone)
    before, start = peak_megabytes(), time.perf_counter()
    path = EXPORTS[name](model, into / name)
    seconds = time.perf_counter() - start
    size = sum(part.stat().st_size for part in path.parent.iterdir()) / 1e6
    memory = f"{before:6.0f} MB before, {peak_megabytes():6.0f} MB at most"
    print(f"{name:14} {seconds:5.0f} s   {memory}, {size:6.0f} MB written")


def latency_runners(method: str, backbone: str, folder: Path) -> dict[str, Callable[[], Any]]:
    import onnxruntime

    model, image, large = build(method, backbone), torch.rand(1, 3, SIZE, SIZE), torch.rand(1, 3, *LARGE)
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = torch.get_num_threads()
    graph, any_graph = (folder / name / "weights/onnx/model.onnx" for name in ("onnx", "onnx-any"))
    session = onnxruntime.InferenceSession(graph, threads)
    return {
        "PyTorch fp32": torch.no_grad()(lambda: model(image)),
        "ONNX Runtime fp32": lambda: session.run(None, {"input": image.numpy()}),
        "OpenVINO fp32": compiled(folder / "openvino/weights/openvino/model.xml", image, F32),
        "OpenVINO, processor's choice": compiled(folder / "openvino/weights/openvino/model.xml", image, {}),
        "OpenVINO INT8, else fp32": compiled(folder / "openvino-int8/weights/openvino/model.xml", image, F32),
        "OpenVINO INT8, processor's choice": compiled(folder / "openvino-int8/weights/openvino/model.xml", image, {}),
        "PyTorch fp32, 1400 x 1000": torch.no_grad()(lambda: model(large)),
        "OpenVINO fp32, 1400 x 1000": compiled(any_graph, large, F32),
    }


def compiled(path: Path, image: torch.Tensor, config: dict[str, Any]) -> Callable[[], Any]:
    import openvino

    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = openvino.Core().compile_model(path, "CPU", {**config, **threads}).create_infer_request()
    pixels = image.numpy()
    return lambda: request.infer({"input": pixels})


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
