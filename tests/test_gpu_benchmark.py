"""The benchmark of GPUs in small, on the CPU, and what it does when a cell or its process fails."""

import json
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DIES = """
import json, sys
from pathlib import Path
out = Path(sys.argv[1])
cells = json.loads(out.read_text())["cells"] if out.exists() else []
out.write_text(json.dumps({"cells": [*cells, {"error": "died"}]}))
sys.exit(len(cells) < 2)
"""
HANGS = """
import json, sys, time
from pathlib import Path
Path(sys.argv[1]).write_text(json.dumps({"cells": [{"seconds": 1}, {"error": sys.argv[2]}]}))
time.sleep(60)
"""


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return import_module("gpu")


@pytest.fixture(scope="module")
def cells(gpu: ModuleType) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return import_module("gpu_cells")


@pytest.fixture
def unlimited(cells: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the state of torch and of logging as it is."""
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
    monkeypatch.setattr(cells.logging, "disable", lambda _: None)


def fill(cells: ModuleType, wanted: list[Any], out: Path, until: float = 600) -> list[dict[str, Any]]:
    settings = cells.Settings("cpu", "zsad-tiny", 28)
    cells.fill(wanted, settings, out, time.time() + until)
    return json.loads(out.read_text())["cells"]


def test_every_method_is_measured_and_what_is_there_is_kept(gpu, cells, unlimited, tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_bench.MEASURED", 0)
    monkeypatch.setattr("gpu_bench.LEAST", 1)
    wanted = gpu.plan(["inference", "training"], gpu.METHODS, [1])
    wanted = [cell for cell in wanted if cell.precision == "fp32" and cell.batch == 1]
    wanted += [cell for cell in gpu.plan(["training"], ["AFClip"], [1]) if cell.precision == "bf16" and cell.batch == 1]
    found = fill(cells, wanted, tmp_path / "gpu.json")
    assert [cell["method"] for cell in found] == [*gpu.METHODS, *gpu.OWN_BATCH, "AFClip"]
    assert all(cell["images_per_second"] == cell["batch"] / cell["seconds"] > 0 for cell in found)
    assert all((cell["outside"] is None) == (cell["method"] == "open_clip") for cell in found)
    assert all(0 < cell["outside"] < 1 for cell in found if cell["outside"] is not None)

    monkeypatch.setattr(cells.Bench, "measure", lambda _, cell: pytest.fail(f"measured again: {cell}"))
    assert fill(cells, wanted, tmp_path / "gpu.json") == found
    text = "\n".join(gpu.tables(gpu.read(tmp_path / "gpu.json")))
    assert all(f"{method}  fp32" in text for method in gpu.METHODS)
    assert "AFClip  bf16" in text
    assert f"{found[0]['images_per_second']:.1f}" in text


def test_a_cell_that_fails_is_noted_and_the_others_are_measured(gpu, cells, unlimited, tmp_path, monkeypatch):
    def measure(_: Any, cell: Any) -> dict[str, Any]:
        if cell.batch == 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if cell.batch == 32:
            raise ValueError("no such layer\nat all")
        return {"seconds": 0.5, "images_per_second": 2.0}

    monkeypatch.setattr(cells.Bench, "measure", measure)
    wanted = gpu.plan(["inference"], ["AFClip"], [1, 8, 32])
    found = fill(cells, wanted, tmp_path / "gpu.json")
    assert len(found) == 9
    errors = {1: None, 8: "out of memory", 32: "ValueError: no such layer"}
    assert all(cell.get("error") == errors[cell["batch"]] for cell in found)
    (line,) = [line for line in gpu.tables(gpu.read(tmp_path / "gpu.json")) if "AFClip  fp16" in line]
    assert line.split() == ["AFClip", "fp16", "2.0", "memory", "failed"]


def test_nothing_is_begun_without_time_for_it(gpu, cells, unlimited, tmp_path, monkeypatch):
    monkeypatch.setattr(cells.Bench, "measure", lambda *_: {"seconds": 0.5, "images_per_second": 2.0})
    wanted = gpu.plan(gpu.PARTS, ["AFClip"], [1])
    found = fill(cells, wanted, tmp_path / "gpu.json", until=20)
    assert {cell["part"] for cell in found} == {"inference", "training"}
    cells.fill(wanted, cells.Settings("cpu", "zsad-tiny", 28), tmp_path / "none.json", 0)
    assert "0 cells in 0 s" in list(gpu.tables(gpu.read(tmp_path / "none.json")))


def test_figures_of_other_settings_are_not_mixed(gpu, cells, unlimited, tmp_path):
    held = {"machine": cells._machine(cells.Settings("cpu", "zsad-tiny", 28)), "cells": []}
    (tmp_path / "gpu.json").write_text(json.dumps({**held, "settings": asdict(cells.Settings("cpu", "zsad-tiny", 56))}))
    with pytest.raises(SystemExit, match=r"gpu\.json: expected figures of this machine with these settings.*--out"):
        fill(cells, gpu.plan(["inference"], ["AFClip"], [1]), tmp_path / "gpu.json")


def test_all_parts_of_the_plan_come_once_and_the_most_telling_first(gpu):
    cells = gpu.plan(gpu.PARTS, gpu.METHODS, [1, 8, 32])
    assert len(cells) == len(set(cells))
    counts = {part: sum(cell.part == part for cell in cells) for part in gpu.PARTS}
    assert counts == {"inference": 72, "training": 30, "compiled": 102, "onnx": 10}
    first = list(dict.fromkeys(cell.part for cell in cells))
    assert first == ["inference", "training", "compiled", "onnx"]
    assert {cell.method for cell in cells[:48]} == set(gpu.METHODS)


def test_a_measuring_process_that_dies_is_begun_again_and_one_that_takes_too_long_is_ended(gpu, tmp_path):
    died = tmp_path / "died.json"
    assert gpu.supervise([sys.executable, "-c", DIES, str(died)], died, time.time() + 60) == 0
    assert len(gpu.read(died)["cells"]) == 3

    assert gpu.supervise([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "none.json", time.time() + 60) == 3

    hung, began = tmp_path / "hung.json", time.time()
    assert gpu.supervise([sys.executable, "-c", HANGS, str(hung), gpu.BEGUN], hung, began + 6) == 0
    assert time.time() - began < 30
    assert gpu.read(hung)["cells"] == [{"seconds": 1}]
