import logging
from dataclasses import asdict

import pandas as pd
import pytest
import yaml

from anomalib_zsad.benchmark.grid import Benchmark, Entry, Protocol, Spec
from anomalib_zsad.benchmark.run import run_benchmark
from anomalib_zsad.cli import main
from anomalib_zsad.evaluation.table import METRICS

TREE = {"class_path": "anomalib_zsad.AFClip"}


def grid(mvtec_root, **changes):
    target = Spec("anomalib.data.MVTecAD", {"root": str(mvtec_root)})
    models = {"ours": Entry("anomalib_zsad.AFClip", shots=[0, 1])}
    settings = {"models": models, "protocols": [Protocol(Spec("x"), {"MVTec": target})], "seeds": [0, 1], **changes}
    return Benchmark(**settings)


class Runner:
    """Gives made-up results, and notes what it was asked for."""

    def __init__(self, fails=(), dies_at=None):
        self.asked, self.fails, self.dies_at = [], fails, dies_at

    def __call__(self, cell):
        if cell.name == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append(cell.name)
        if cell.name in self.fails:
            raise RuntimeError("no\nmemory")
        value = 0.5 + 0.1 * cell.seed
        rows = [{"category": name, "images": 4, **dict.fromkeys(METRICS, value + change), "note": ""}
                for name, change in (("bottle", 0.0), ("grid", 0.2))]  # fmt: skip
        return pd.DataFrame(rows).assign(pixel_AUPRO_200=float("nan"))


def test_every_cell_is_run_once_and_reported(mvtec_root, tmp_path):
    runner = Runner()
    assert run_benchmark(grid(mvtec_root), tmp_path, runner)[1] == {}
    assert len(runner.asked) == len(set(runner.asked)) == 4
    rows = pd.read_csv(tmp_path / "results.csv")
    assert len(rows) == 4 * 2 * (len(METRICS) - 1)
    assert not rows.duplicated(["model", "target", "category", "shots", "seed", "metric"]).any()
    table = (tmp_path / "results.md").read_text()
    assert "| ours, k = 1 | 65.0 ± 7.1 |" in table  # seeds: 0.6 and 0.7
    assert "AUPRO_200" not in table


def test_finished_cells_are_not_run_again(mvtec_root, tmp_path):
    run_benchmark(grid(mvtec_root), tmp_path, Runner())
    before = (tmp_path / "results.csv").read_text()
    again = Runner()
    run_benchmark(grid(mvtec_root), tmp_path, again)
    assert again.asked == []
    assert (tmp_path / "results.csv").read_text() == before
    more = Runner()
    run_benchmark(grid(mvtec_root, seeds=[0, 1, 2]), tmp_path, more)
    assert more.asked == ["ours/MVTec/0_shot/seed_2", "ours/MVTec/1_shot/seed_2"]


def test_an_interrupted_run_goes_on(mvtec_root, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(grid(mvtec_root), tmp_path, Runner(dies_at="ours/MVTec/0_shot/seed_1"))
    rest = Runner()
    run_benchmark(grid(mvtec_root), tmp_path, rest)
    assert rest.asked == ["ours/MVTec/0_shot/seed_1", "ours/MVTec/1_shot/seed_1"]


def test_a_result_of_other_settings_does_not_count(mvtec_root, tmp_path):
    run_benchmark(grid(mvtec_root), tmp_path, Runner())
    changed = Runner()
    run_benchmark(grid(mvtec_root, train_batch_size=1), tmp_path, changed)
    assert len(changed.asked) == 4


def test_a_damaged_cell_is_run_again(mvtec_root, tmp_path):
    run_benchmark(grid(mvtec_root), tmp_path, Runner())
    (tmp_path / "cells/ours/MVTec/1_shot/seed_0/cell.json").write_text('{"fingerprint"')
    again = Runner()
    run_benchmark(grid(mvtec_root), tmp_path, again)
    assert again.asked == ["ours/MVTec/1_shot/seed_0"]


def test_a_failed_cell_is_named_and_tried_again_and_the_rest_goes_on(mvtec_root, tmp_path):
    name = "ours/MVTec/1_shot/seed_0"
    assert run_benchmark(grid(mvtec_root), tmp_path, Runner(fails=[name]))[1] == {name: "RuntimeError: no memory"}
    assert f"- {name}: RuntimeError: no memory" in (tmp_path / "results.md").read_text()
    assert set(pd.read_csv(tmp_path / "results.csv")["seed"]) == {0, 1}
    again = Runner()
    assert run_benchmark(grid(mvtec_root), tmp_path, again)[1] == {}
    assert again.asked == [name]


def test_the_command_says_how_far_it_is(mvtec_root, tmp_path, monkeypatch, capsys):
    package = logging.getLogger("anomalib_zsad")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's
    monkeypatch.setattr(package, "level", package.level)
    run = lambda benchmark, folder, **_: run_benchmark(benchmark, folder, Runner())  # noqa: E731
    monkeypatch.setattr("anomalib_zsad.benchmark.run.run_benchmark", run)
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(asdict(grid(mvtec_root))))
    assert main(["benchmark", "-c", str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "0 of 4 cells have a result in" in told
    assert "ours/MVTec/1_shot/seed_1" in told
    assert " s left." in told
