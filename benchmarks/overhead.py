"""Where the time of `anomalib test` and `anomalib predict` goes, from the start of the process to its end.

    python benchmarks/overhead.py                                   # 824 drawn images, 30 categories, the small CLIP
    python benchmarks/overhead.py --backbone ViT-B-16 --size 512 --categories 3 --good 1 --defective 1
    python benchmarks/overhead.py --cases "predict one" --repeats 5
    python benchmarks/overhead.py --cases test "test, pictures"

Weights are random where the package has none. Every command is run in a process of its own, as a user would; each
second is counted once, for the innermost part that it was spent in. The network is the forward of the torch model, from
pre-processed images to scores and maps. "elsewhere" is mostly Lightning. The time of the processor is that of all
threads of the process, without those of workers that read images.
"""

import argparse
import contextlib
import functools
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

CASES = ("test", "test, pictures", "predict", "predict one")
PARTS = {
    "import": "Python, anomalib and what it imports",
    "import, ours": "this package",
    "command": "reading the command line, without what it builds",
    "model": "building the model, weights included",
    "data": "finding and checking the files of a dataset",
    "images": "waiting for images: reading, decoding, resizing",
    "network": "the forward pass",
    "pre-processing": "on the device",
    "post-processing": "thresholds and decisions",
    "evaluation": "metrics of images and pixels, and their files",
    "predictions": "predictions.csv",
    "pictures": "queueing and waiting for them",
    "elsewhere": "the trainer",
}
_Seconds = dict[str, tuple[float, float]]
"""By part: on the clock, and of the processor."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["test", "predict", "predict one"])
    parser.add_argument("--backbone", default="zsad-tiny")
    parser.add_argument("--size", type=int, default=224, help="of images and of the network's input, in pixels")
    parser.add_argument("--good", type=int, default=14, help="normal images a category")
    parser.add_argument("--defective", type=int, default=2, help="images of each defect of a category")
    parser.add_argument("--categories", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that read images for `test`")
    parser.add_argument("--root", type=Path, help="keep the drawn images in this folder")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(json.loads(options.run), float(os.environ["STARTED"]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = prepare(options, Path(folder))
        for case in options.cases:
            command = [sys.executable, "-W", "ignore", __file__, "--run", json.dumps(runs[case])]
            report(case, options, [run(command, folder) for _ in range(options.repeats)])


def run(command: list[str], folder: str) -> _Seconds:
    """Measure a command in a process of its own."""
    environment = {**os.environ, "STARTED": str(time.time())}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def prepare(options: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Draw the images and write the weights; return the command of every case."""
    from anomalib_zsad import AFClip, Synthetic
    from anomalib_zsad.synthetic.drawing.catalogue import CATEGORIES

    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    root, names = options.root or folder / "images", list(CATEGORIES)[: options.categories]
    (folder / "files").mkdir()
    counts = {"train_good": 1, "test_good": options.good, "test_defective": options.defective}
    Synthetic(root, names, target_categories=names, image_size=options.size, **counts).prepare_data()
    random = options.backbone != "zsad-tiny"
    model = AFClip(options.backbone, image_size=options.size, **({"pretrained": None} if random else {}))
    model.trained_on = ["nothing"]
    model.save_weights(folder / "adapter.safetensors")
    chosen = ["--model", "anomalib_zsad.AFClip", "--model.backbone", options.backbone]
    chosen += ["--model.weights", str(folder / "adapter.safetensors"), *["--model.pretrained", "null"] * random]
    chosen += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--default_root_dir", str(folder / "results")]
    data = ["--data", "Synthetic", "--data.root", str(root), "--data.num_workers", str(options.workers)]
    data += ["--data.image_size", str(options.size), "--data.target_categories", json.dumps(names)]
    data += ["--data.categories", json.dumps(names)]
    data += [word for name, count in counts.items() for word in (f"--data.{name}", str(count))]
    without = ["--model.visualizer", "false"]
    images = sorted(root.glob("*/test/*/*.png"))
    for number, image in enumerate(images):
        (folder / "files" / f"{number}.png").hardlink_to(image)
    print(f"{len(images)} images of {len(names)} categories")
    return {
        "test": ["test", *chosen, *without, *data],
        "test, pictures": ["test", *chosen, *data],
        "predict": ["predict", *chosen, *without, "--data", str(folder / "files")],
        "predict one": ["predict", *chosen, *without, "--data", str(images[0])],
    }


def measure(words: list[str], started: float) -> _Seconds:
    """Run one command in this process, and note what each part takes."""
    ledger = Ledger(started)
    warnings.filterwarnings("ignore")
    with ledger.part("import"):
        from anomalib.cli.cli import main as command
    with ledger.part("import, ours"):
        import anomalib_zsad

        assert anomalib_zsad.AFClip
    watch(ledger)
    sys.argv = ["anomalib", *words]
    with ledger.part("command"), contextlib.redirect_stdout(io.StringIO()):
        command()
    return ledger.taken()


class Ledger:
    """Counts seconds, each once, for the innermost part that is open.

    Args:
        started: When the process was started, in seconds since the epoch.
    """

    def __init__(self, started: float) -> None:
        self._open, self._seconds = ["elsewhere"], {"import": (time.time() - started, time.process_time())}
        self._last = self._now()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done inside for a part."""
        self._settle()
        self._open.append(name)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def taken(self) -> _Seconds:
        """Return what has been counted."""
        self._settle()
        return self._seconds

    def _settle(self) -> None:
        now, part = self._now(), self._open[-1]
        clock, processor = self._seconds.get(part, (0.0, 0.0))
        self._seconds[part] = (clock + now[0] - self._last[0], processor + now[1] - self._last[1])
        self._last = now

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def watch(ledger: Ledger) -> None:
    """Have functions of this package, of anomalib and of torch counted for their parts."""
    from anomalib.engine import Engine
    from torch.utils.data import DataLoader

    from anomalib_zsad import AFClip
    from anomalib_zsad.data.adopting import ImageFiles
    from anomalib_zsad.data.auxiliary import Auxiliary
    from anomalib_zsad.evaluation import MonotonePostProcessor, ZeroShotEvaluator
    from anomalib_zsad.evaluation.predictions import PredictionWriter
    from anomalib_zsad.evaluation.visualizer import CategoryVisualizer
    from anomalib_zsad.models.parts.pre_processor import ClipPreProcessor

    whens = ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end")
    hooks = [f"on_{stage}_{when}" for stage in ("test", "predict") for when in whens]
    for kind, names, part in (
        (Engine, ["test", "predict"], "elsewhere"),
        (AFClip, ["__init__"], "model"),
        (AFClip, ["predict_batch"], "network"),
        (Auxiliary, ["prepare_data", "setup"], "data"),
        (ImageFiles, ["__init__"], "data"),
        (ClipPreProcessor, hooks, "pre-processing"),
        (MonotonePostProcessor, hooks, "post-processing"),
        (ZeroShotEvaluator, hooks, "evaluation"),
        (PredictionWriter, hooks, "predictions"),
        (CategoryVisualizer, hooks, "pictures"),
    ):
        for name in names:
            if hasattr(kind, name):
                setattr(kind, name, counted(getattr(kind, name), part, ledger))
    DataLoader.__iter__ = waited_for(DataLoader.__iter__, ledger)


def counted(function: Callable[..., Any], part: str, ledger: Ledger) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with ledger.part(part):
            return function(*arguments, **options)

    return call


def waited_for(iterate: Callable[[Any], Iterator[Any]], ledger: Ledger) -> Callable[[Any], Iterator[Any]]:
    def batches(loader: Any) -> Iterator[Any]:
        with ledger.part("images"):
            iterator = iterate(loader)
        while True:
            with ledger.part("images"):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    return batches


def report(case: str, options: argparse.Namespace, repeats: list[_Seconds]) -> None:
    import torch

    threads = torch.get_num_threads()
    print(f"\n{case}: {options.backbone}, {options.size} px, {threads} threads, medians of {len(repeats)}")
    print(f"  {'':16}{'clock':>10}{'share':>8}{'processor':>12}{'share':>8}")
    medians = {part: median(repeats, part) for part in PARTS}
    whole = total(medians.values())
    for part, (clock, processor) in {**medians, "all": whole}.items():
        shares = (clock / whole[0], processor / whole[1])
        what = PARTS.get(part, "")
        print(f"  {part:16}{clock:8.2f} s{shares[0]:8.1%}{processor:10.2f} s{shares[1]:8.1%}  {what}")
    imports = total(medians[part] for part in ("import", "import, ours"))
    for unit, network, all_of_it, of_imports in zip(
        ("clock", "processor"), medians["network"], whole, imports, strict=True
    ):
        outside = [1 - network / seconds for seconds in (all_of_it, all_of_it - of_imports)]
        print(f"  outside of the network: {outside[0]:.1%} of the {unit}, {outside[1]:.1%} without imports")


def median(repeats: list[_Seconds], part: str) -> tuple[float, float]:
    clock, processor = zip(*(each.get(part, (0.0, 0.0)) for each in repeats), strict=True)
    return statistics.median(clock), statistics.median(processor)


def total(parts: Iterable[tuple[float, float]]) -> tuple[float, float]:
    clock, processor = zip(*parts, strict=True)
    return sum(clock), sum(processor)


if __name__ == "__main__":
    main()
