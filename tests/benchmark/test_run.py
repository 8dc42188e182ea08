import os
import secrets
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from anomalib_zsad.benchmark.grid import Benchmark, Entry, Protocol, Spec
from anomalib_zsad.benchmark.launch import LOST, Launcher
from anomalib_zsad.benchmark.run import run_benchmark
from anomalib_zsad.cli import main
from anomalib_zsad.evaluation.table import METRICS

TREE = {"class_path": "anomalib_zsad.AFClip"}


def grid(mvtec_root, **changes):
    target = Spec("anomalib.data.MVTecAD", {"root": str(mvtec_root)})
    models = {"ours": Entry("anomalib_zsad.AFClip", shots=[0, 1])}
    settings = {
        "models": models,
        "protocols": [Protocol(Spec("anomalib_zsad.VisA"), {"MVTec": target})],
        "seeds": [0, 1],
        **changes,
    }
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


class KilledRunner(Runner):
    """Takes its process with it, without any goodbye."""

    def __call__(self, cell):
        if cell.name == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(cell)


def test_every_cell_is_run_once_and_reported(mvtec_root, tmp_path):
    runner = Runner()
    assert run_benchmark(grid(mvtec_root), tmp_path, runner)[1] == {}
    assert len(runner.asked) == len(set(runner.asked)) == 4
    rows = pd.read_csv(tmp_path / "results.csv")
    assert len(rows) == 4 * 2 * (len(METRICS) - 1)
    assert not rows.duplicated(["model", "target", "category", "shots", "seed", "metric"]).any()
    summary = pd.read_csv(tmp_path / "summary.csv").set_index(["shots", "metric"])
    assert summary.loc[(1, "image_AUROC"), "mean_over_categories"] == pytest.approx(0.65)
    assert summary.loc[(1, "image_AUROC"), "categories"] == 2
    table = (tmp_path / "results.md").read_text()
    assert table.startswith("In percent: mean over categories, which count alike; not of pooled images")
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


def test_a_run_that_was_killed_goes_on(mvtec_root, tmp_path):
    code = f"""
from tests.benchmark.test_run import KilledRunner, grid, run_benchmark
from pathlib import Path
run_benchmark(grid({str(mvtec_root)!r}), Path({str(tmp_path)!r}), KilledRunner(dies_at="ours/MVTec/0_shot/seed_1"))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -signal.SIGKILL
    again = Runner()
    rows, failures = run_benchmark(grid(mvtec_root), tmp_path, again)
    assert again.asked == ["ours/MVTec/0_shot/seed_1", "ours/MVTec/1_shot/seed_1"]
    assert failures == {}
    whole = run_benchmark(grid(mvtec_root), tmp_path / "whole", Runner())[0]
    pd.testing.assert_frame_equal(rows, whole)


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


class NotingRunner(Runner):
    """Notes in a folder what it was asked for, in whatever process it is."""

    def __init__(self, folder, **options):
        super().__init__(**options)
        self.folder = folder

    def __call__(self, cell):
        self.folder.mkdir(exist_ok=True)
        (self.folder / secrets.token_hex(8)).write_text(f"{os.getpid()} {cell.name}")
        return super().__call__(cell)

    def noted(self):
        """Each time that a cell was run: the process and the cell's name."""
        return [tuple(path.read_text().split()) for path in self.folder.iterdir()]


@pytest.mark.parametrize(("given", "jobs"), [([], 3), (["--jobs", "2"], 2)])
def test_the_command_says_how_many_cells_run_at_a_time(mvtec_root, tmp_path, monkeypatch, capsys, given, jobs):
    seen = []

    def run(benchmark, folder, **engine):
        seen.append(benchmark.launcher)
        return run_benchmark(replace(benchmark, launcher=Launcher()), folder, Runner())

    monkeypatch.setattr("anomalib_zsad.benchmark.run.run_benchmark", run)
    config = tmp_path / "grid.yaml"
    written = asdict(grid(mvtec_root, launcher=Launcher(3, options={"inner_max_num_threads": 1})))
    config.write_text(yaml.safe_dump(written))
    assert main(["benchmark", "-c", str(config), "--out", str(tmp_path / "out"), *given]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "are done" in line]
    assert [line.split(".")[0] for line in told] == [f"{number} of 4 cells are done" for number in range(1, 5)]
    assert ["left" in line for line in told] == [True, True, True, False]
    assert seen == [Launcher(jobs, options={"inner_max_num_threads": 1})]


def test_the_command_refuses_an_accelerator_that_is_none(mvtec_root, tmp_path, capsys):
    config = tmp_path / "grid.yaml"
    config.write_text(yaml.safe_dump(asdict(grid(mvtec_root))))
    assert main(["benchmark", "-c", str(config), "--accelerator", "abacus"]) == 2
    assert "--accelerator must be one of auto, gpu, cpu, " in capsys.readouterr().err


def test_the_command_refuses_to_run_nothing_at_a_time(mvtec_root, tmp_path, capsys):
    config = tmp_path / "grid.yaml"
    config.write_text(yaml.safe_dump(asdict(grid(mvtec_root))))
    assert main(["benchmark", "-c", str(config), "--jobs", "0"]) == 2
    assert "expected at least 1 job at a time, got 0" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_give_what_one_gives(mvtec_root, tmp_path):
    name = "ours/MVTec/1_shot/seed_0"
    alone, together = (NotingRunner(tmp_path / f"asked_{each}", fails=[name]) for each in ("alone", "together"))
    expected = run_benchmark(grid(mvtec_root), tmp_path / "alone", alone)
    two = grid(mvtec_root, launcher=Launcher(2))
    rows, failures = run_benchmark(two, tmp_path / "together", together)
    assert failures == expected[1] == {name: "RuntimeError: no memory"}
    pd.testing.assert_frame_equal(rows, expected[0])
    for file in ("results.csv", "summary.csv", "results.md"):
        assert (tmp_path / "together" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    processes, cells = zip(*together.noted(), strict=True)
    assert sorted(cells) == sorted(cell.name for cell in two.cells())
    assert str(os.getpid()) not in processes
    # The cells of one training stay in one process, one after the other.
    for seed in (0, 1):
        assert len({process for process, cell in together.noted() if cell.endswith(f"seed_{seed}")}) == 1

    # What was finished counts, wherever it ran.
    again = Runner()
    assert run_benchmark(grid(mvtec_root), tmp_path / "together", again)[1] == {}
    assert again.asked == [name]


class LosingLauncher(Launcher):
    """Loses the process of one job after its first cell."""

    def run(self, function, jobs):
        for number, job in enumerate(jobs):
            function(job[:1] if number == 1 else job)
            yield job, LOST if number == 1 else None


def test_a_process_that_dies_costs_the_others_nothing_that_is_finished(mvtec_root, tmp_path):
    runner = Runner()
    benchmark = grid(mvtec_root, seeds=[0, 1, 2], launcher=LosingLauncher(2))
    rows, failures = run_benchmark(benchmark, tmp_path, runner)
    assert failures == {"ours/MVTec/1_shot/seed_1": LOST}
    assert len(runner.asked) == 5
    done = set(zip(rows["shots"], rows["seed"], strict=True))
    assert done == {(0, 0), (1, 0), (0, 1), (0, 2), (1, 2)}


def test_ensembles_run_when_all_that_they_are_made_of_has_run(mvtec_root, tmp_path):
    class Noting(Launcher):
        def run(self, function, jobs):
            handed_out.append([cell.name for job in jobs for cell, _ in job])
            yield from super().run(function, jobs)

    handed_out = []
    ours = Entry("anomalib_zsad.AFClip")
    mix = Entry("anomalib_zsad.Ensemble", members=["ours", "ours"])
    benchmark = grid(mvtec_root, models={"ours": ours, "mix": mix, "other": ours}, seeds=[0], launcher=Noting())
    run_benchmark(benchmark, tmp_path, Runner())
    assert handed_out == [["ours/MVTec/seed_0", "other/MVTec/seed_0"], ["mix/MVTec/seed_0"]]
