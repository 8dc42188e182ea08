"""The process that measures the cells of `gpu.py`, one by one, and writes each into the file."""

import importlib.metadata
import logging
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gpu import BEGUN, Cell, Settings, read, write
from gpu_bench import Bench

GUESSES = {"compiled": 30.0, "onnx": 60.0}
"""Seconds without which such a cell is not begun, until one has been measured."""


def fill(cells: Sequence[Cell], settings: Settings, out: Path, until: float) -> None:
    """Measure what a file does not hold yet, and write it after each cell; stop at a time of the clock."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
    if torch.device(settings.device).index is not None:
        torch.cuda.set_device(settings.device)
    document = _begun(out, settings)
    held = {_key(cell) for cell in document["cells"]}
    guesses, bench, began, before = dict(GUESSES), Bench(settings), time.time(), document["seconds"]
    for cell in cells:
        started = time.time()
        if _key(asdict(cell)) in held or started + guesses.get(cell.part, 0) > until:
            continue
        document["cells"].append({**asdict(cell), "error": BEGUN})
        write(document, out)
        with _noted(document["cells"][-1]) as found:
            found.update(bench.measure(cell))
        if cell.part in guesses:
            guesses[cell.part] = time.time() - started
        document["seconds"] = before + time.time() - began
        write(document, out)
        print(*asdict(cell).values(), document["cells"][-1].get("error", ""), flush=True)
        if "error" in document["cells"][-1]:
            bench.recover()


@contextmanager
def _noted(cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Note what is found of a cell in the place of its error, or the error that it ends with."""
    found: dict[str, Any] = {}
    try:
        yield found
    except torch.OutOfMemoryError:
        cell["error"] = "out of memory"
    except Exception as error:  # of any library: the other cells are measured whatever it is
        text = str(error).strip() or type(error).__name__
        cell["error"] = f"{type(error).__name__}: {text.splitlines()[0][:300]}"
    else:
        del cell["error"]
        cell.update(found)


def _begun(out: Path, settings: Settings) -> dict[str, Any]:
    new = {"machine": _machine(settings), "settings": asdict(settings), "seconds": 0.0, "cells": []}
    held = read(out)
    if others := [
        f"{name} {held[name]}, not {new[name]}"
        for name in ("machine", "settings")
        if name in held and held[name] != new[name]
    ]:
        sys.exit(
            f"{out}: expected figures of this machine with these settings, got {'; '.join(others)}: give another --out"
        )
    return {**new, **held}


def _key(cell: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[name] for name in Cell.__dataclass_fields__)


def _machine(settings: Settings) -> dict[str, Any]:
    """Name what the figures depend on."""
    packages = ("anomalib-zsad", "anomalib", "open_clip_torch", "torch", "triton", "onnxruntime-gpu", "onnxruntime")
    machine: dict[str, Any] = {
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {name: version for name in packages if (version := _version(name))},
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }
    if torch.device(settings.device).type == "cuda":
        of_device = torch.cuda.get_device_properties(settings.device)
        machine |= {
            "device": of_device.name,
            "capability": f"{of_device.major}.{of_device.minor}",
            "memory_mib": of_device.total_memory // 2**20,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return machine


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
