"""Speed and memory of every method on a GPU, beside open_clip's own tower, in at most seven and a half minutes.

    python benchmarks/gpu.py                                   # ViT-L-14-336 at 518 px, random weights; into gpu.json
    python benchmarks/gpu.py --parts compiled --budget 3600    # what the time was too short for: adds to the file
    python benchmarks/gpu.py --device cpu                      # the small CLIP of the package, to see that it runs

Nothing but the package and a GPU is needed. Images lie on the device. A time is the median over calls, taken between
events of the GPU, after two calls that warm up. "bf16" and "fp16" are autocast: under either, the tower of the methods
runs in bfloat16, and open_clip's own in the type that is named. "outside" is the share of the time that is not spent in
the encoder: the frozen tower with what a method adds inside of it. Peaks are those of torch's allocator, with all
weights that lie on the device. Matrix products in fp32 keep all bits unless --tf32 is given.

Cells are measured in the order of their worth, and the file is written after each of them; what it holds already, of
the same machine and settings, is not measured again. Another process measures: one that dies costs the cell at which it
died, and the next one goes on; at the end of the budget it is ended.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from anomalib_zsad.atomic import whole_file

BUDGET = 450.0
"""Seconds."""
METHODS = ("open_clip", "AFClip", "AFClip+", "ACDClip", "WMoEClip", "KAnoClip", "AnomalyClip", "ClipZeroShot")
"""The first is the bare tower; "AFClip+" has four references in its memory."""
UNTRAINED = {"open_clip", "AFClip+", "ClipZeroShot"}
PRECISIONS = ("fp32", "bf16", "fp16")
PARTS = ("inference", "training", "compiled", "onnx")
BEGUN = "the process died while it was measured"
OWN_BATCH = {"AFClip": 8, "ACDClip": 6, "WMoEClip": 32, "KAnoClip": 8, "AnomalyClip": 8}
"""Of a training: the paper's, and for KAnoCLIP, whose paper names none, that of its configuration."""


@dataclass(frozen=True)
class Cell:
    """What is measured by itself."""

    part: str
    method: str
    precision: str
    batch: int
    is_training: bool = False


@dataclass(frozen=True)
class Settings:
    """What all cells have in common."""

    device: str
    backbone: str
    size: int
    tf32: bool = False


def main() -> None:
    """Let another process measure, and print what it has written."""
    began = time.time()
    options = parsed()
    if options.until is None:
        until = began + options.budget
        command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--until", str(until)]
        if status := supervise(command, options.out, until):
            sys.exit(status)
        print(*tables(read(options.out)), sep="\n")
        return
    from gpu_cells import fill

    settings = settings_of(options)
    fill(plan(options.parts, options.methods, options.batches), settings, options.out, options.until)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file to write or add to (%(default)s)")
    parser.add_argument("--device", help="cuda, cuda:1 or cpu; by default a GPU, where there is one")
    parser.add_argument("--backbone", help="by default ViT-L-14-336 on a GPU, else zsad-tiny")
    parser.add_argument("--size", type=int, help="of the images in pixels; by default 518 on a GPU, else 168")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="of inference (%(default)s)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tf32", action="store_true", help="let matrix products in fp32 keep ten bits only")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds (%(default)s)")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def settings_of(options: argparse.Namespace) -> Settings:
    """Fill in what depends on the machine."""
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = torch.device(device).type == "cuda"
    backbone = options.backbone or ("ViT-L-14-336" if on_gpu else "zsad-tiny")
    return Settings(device, backbone, options.size or (518 if on_gpu else 168), options.tf32)


def plan(parts: Sequence[str], methods: Sequence[str], batches: Sequence[int]) -> list[Cell]:
    """List the cells, the most telling first, so that a slow machine has something of everything."""
    trained = [method for method in methods if method not in UNTRAINED]
    small = batches[:-1] or batches
    large = batches[len(small) :]

    def inference(part: str, sizes: Sequence[int], precisions: Sequence[str]) -> list[Cell]:
        return [Cell(part, *each) for each in product(methods, precisions, sizes)]

    def training(part: str, precisions: Sequence[str]) -> list[Cell]:
        sizes = {method: dict.fromkeys((1, OWN_BATCH[method])) for method in trained}
        every = product(trained, precisions)
        return [Cell(part, *each, size, is_training=True) for each in every for size in sizes[each[0]]]

    cells = [
        *inference("inference", small, PRECISIONS),
        *training("training", PRECISIONS[:1]),
        *inference("inference", large, PRECISIONS),
        *training("training", PRECISIONS[1:]),
        *inference(
            "compiled", small[-1:], ["bf16"]
        ),  # after all else: the compiler takes most of the time that is left
        *(Cell("onnx", method, "fp32", size) for method, size in product(trained, small)),
        *inference("compiled", batches, PRECISIONS),
        *training("compiled", PRECISIONS),
    ]
    return [cell for cell in dict.fromkeys(cells) if cell.part in parts]


def supervise(command: Sequence[str], out: Path, until: float) -> int:
    """Run a command until it succeeds, or until a time; again where it has died and left more cells than before.

    Returns:
        The exit status of the last run; 0 where it was ended.
    """
    held, status = -1, 0
    while (left := until - time.time()) > 0 and held < (held := len(read(out)["cells"])):
        measuring = subprocess.Popen(command, start_new_session=True)
        try:
            status = measuring.wait(left)
        except subprocess.TimeoutExpired:
            status = 0
        finally:
            if measuring.poll() is None:
                os.killpg(measuring.pid, signal.SIGKILL)  # with the processes that compile for it
                measuring.wait()
                _forget_begun(out)
        if not status:
            break
    return status


def read(path: Path) -> dict[str, Any]:
    """Read what was measured so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": []}


def write(document: dict[str, Any], path: Path) -> None:
    """Write what was measured so far."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")


def tables(document: dict[str, Any]) -> Iterator[str]:
    """Print what was measured: a table of inference and one of training."""
    cells = document["cells"]
    yield json.dumps({**document.get("machine", {}), **document.get("settings", {})}, indent=1)
    for is_training, title in ((False, "images/s (share of the time outside of the encoder)"), (True, "training step")):
        rows = [cell for cell in cells if cell["is_training"] == is_training]
        yield from _table(title, rows)
    yield f"{len(cells)} cells in {document.get('seconds', 0):.0f} s"


def _forget_begun(out: Path) -> None:
    """Remove the cell that there was no time left for: it did not fail."""
    document = read(out)
    if document["cells"] and document["cells"][-1].get("error") == BEGUN:
        document["cells"].pop()
        write(document, out)


def _table(title: str, cells: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not cells:
        return
    columns = sorted({_column(cell) for cell in cells}, key=lambda each: (PARTS.index(each[0]), len(each[1]), each[1]))
    rows = {(cell["method"], cell["precision"]) for cell in cells}
    found = {(cell["method"], cell["precision"], *_column(cell)): _shown(cell) for cell in cells}
    lines = [["", "", *map(" ".join, columns)]]
    lines += [[*row, *(found.get((*row, *column), "-") for column in columns)] for row in sorted(rows, key=_order)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    yield f"\n{title}"
    yield from ("  ".join(map(str.rjust, line, widths)) for line in lines)


def _column(cell: dict[str, Any]) -> tuple[str, str]:
    is_own = cell["is_training"] and cell["batch"] > 1
    return cell["part"], "own batch" if is_own else str(cell["batch"])


def _order(row: tuple[str, str]) -> tuple[int, int]:
    return METHODS.index(row[0]), PRECISIONS.index(row[1])


def _shown(cell: dict[str, Any]) -> str:
    if "error" in cell:
        return "memory" if cell["error"] == "out of memory" else "failed"
    if cell["is_training"]:
        peak = "" if cell["peak_mib"] is None else f" {cell['peak_mib']:.0f} MiB"
        return f"{cell['batch']}: {1000 * cell['seconds']:.1f} ms{peak}"
    outside = cell.get("outside")
    return f"{cell['images_per_second']:.1f}" + ("" if outside is None else f" ({outside:.0%})")


if __name__ == "__main__":
    main()
