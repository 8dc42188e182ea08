import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from threading import Event
from time import sleep

import pandas as pd
import pytest
import yaml

from anomalib_zsad.benchmark import report
from anomalib_zsad.benchmark.child_process import PYTHON, TAKEN
from anomalib_zsad.benchmark.entries import Entry, Protocol, Spec
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.benchmark.launch import Launcher
from anomalib_zsad.benchmark.run import run_benchmark, run_cell
from anomalib_zsad.benchmark.schedule import plan
from anomalib_zsad.benchmark.store import Store
from anomalib_zsad.cli import main
from anomalib_zsad.evaluation.table import METRICS
from tests.benchmark.test_child_process import awaited, is_gone

FORK = get_context("fork")


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    """Drawing takes most of a run whose results are made up; `test_plots.py` and `test_cell_run.py` draw."""
    monkeypatch.setattr(report, "plot_bars", lambda *_: None)


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
    killed = KilledRunner(dies_at="ours/MVTec/0_shot/seed_1")
    process = FORK.Process(target=run_benchmark, args=(grid(mvtec_root), tmp_path, killed))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
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


@pytest.mark.parametrize(("given", "jobs"), [([], 3), (["--jobs", "2"], 2)])
def test_the_command_says_how_many_cells_run_at_a_time(mvtec_root, tmp_path, monkeypatch, capsys, given, jobs):
    seen = []

    def run(benchmark, folder, accelerator):
        seen.append(benchmark.launcher)
        return run_benchmark(benchmark, folder, Runner())

    monkeypatch.setattr("anomalib_zsad.benchmark.run.run_benchmark", run)
    config = tmp_path / "grid.yaml"
    config.write_text(yaml.safe_dump(asdict(grid(mvtec_root, launcher=Launcher(3)))))
    assert main(["benchmark", "-c", str(config), "--out", str(tmp_path / "out"), *given]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "are done" in line]
    assert [line.split(".")[0] for line in told] == [f"{number} of 4 cells are done" for number in range(1, 5)]
    assert ["left" in line for line in told] == [True, True, True, False]
    assert seen == [Launcher(jobs)]


def test_the_command_names_its_cells_and_runs_one(mvtec_root, tmp_path, monkeypatch, capsys):
    config = tmp_path / "grid.yaml"
    config.write_text(yaml.safe_dump(asdict(grid(mvtec_root))))
    command = ["benchmark", "-c", str(config), "--out", str(tmp_path / "out")]
    assert main([*command, "--list-cells"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert names == [cell.name for cell in grid(mvtec_root).cells()]
    assert not (tmp_path / "out").exists()

    runner = Runner(fails=[names[3]])
    monkeypatch.setattr("anomalib_zsad.benchmark.run.CellRunner", lambda *_, **__: runner)
    assert [main([*command, "--cell", name]) for name in (names[2], names[3], names[2])] == [0, 1, 0]
    assert runner.asked == names[2:4]
    assert main([*command, "--cell", "gone"]) == 2
    assert "--cell: expected one of the names that --list-cells prints on this machine, got gone" in (
        capsys.readouterr().err
    )
    rows, failures = run_benchmark(grid(mvtec_root), tmp_path / "out", rest := Runner())
    assert rest.asked == [names[0], names[1], names[3]]
    assert failures == {}
    pd.testing.assert_frame_equal(rows, run_benchmark(grid(mvtec_root), tmp_path / "whole", Runner())[0])


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


def test_a_cell_that_another_process_runs_is_left_to_it(mvtec_root, tmp_path):
    benchmark, store, runner = grid(mvtec_root), Store(tmp_path), Runner()
    first, second, *_ = benchmark.cells()

    def other():
        with store.lock(first, 0):
            taken.set()
            sleep(3)
            store.finish(first, benchmark.fingerprint(first), Runner()(first), 1)

    taken = Event()
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(other)
        taken.wait()
        assert run_cell(benchmark, tmp_path, first, runner, patience=0) == TAKEN
        rows, failures = run_benchmark(benchmark, tmp_path, runner)
        ended.result()
    assert failures == {}
    assert first.name not in runner.asked  # nor was what waits for its training begun before
    assert runner.asked[-1] == second.name
    pd.testing.assert_frame_equal(rows, run_benchmark(benchmark, tmp_path / "alone", Runner())[0])


def test_two_benchmarks_on_one_folder_share_the_work(mvtec_root, tmp_path):
    class Slow(Runner):
        def __call__(self, cell):
            sleep(0.3)
            return super().__call__(cell)

    models = {name: Entry("anomalib_zsad.AFClip") for name in "abcd"}
    runners = [Slow(), Slow()]
    with ThreadPoolExecutor() as pool:
        results = list(
            pool.map(lambda runner: run_benchmark(grid(mvtec_root, models=models), tmp_path, runner), runners)
        )
    asked = [name for runner in runners for name in runner.asked]
    assert sorted(asked) == sorted(cell.name for cell in grid(mvtec_root, models=models).cells())
    assert all(runner.asked for runner in runners)
    pd.testing.assert_frame_equal(results[0][0], results[1][0])


def test_ensembles_run_when_all_that_they_are_made_of_has_run(mvtec_root, tmp_path):
    ours = Entry("anomalib_zsad.AFClip")
    mix = Entry("anomalib_zsad.Ensemble", members=["ours", "ours"])
    benchmark = grid(mvtec_root, models={"ours": ours, "mix": mix, "other": ours}, seeds=[0, 1])
    after = {task.cell.name: {each.cell.name for each in task.after} for task in plan(benchmark, Store(tmp_path))}
    assert after == {
        **{f"{name}/MVTec/seed_{seed}": set() for name in ("ours", "other") for seed in (0, 1)},
        **{f"mix/MVTec/seed_{seed}": {f"ours/MVTec/seed_{seed}"} for seed in (0, 1)},
    }


def test_one_cell_of_a_training_runs_before_the_others(mvtec_root, tmp_path):
    benchmark = grid(mvtec_root)
    after = {task.cell.name: [each.cell.name for each in task.after] for task in plan(benchmark, Store(tmp_path))}
    assert after["ours/MVTec/1_shot/seed_1"] == ["ours/MVTec/0_shot/seed_1"]
    assert after["ours/MVTec/0_shot/seed_1"] == []
    first = next(benchmark.cells())
    run_cell(benchmark, tmp_path, first, Runner())
    rest = plan(benchmark, Store(tmp_path))
    assert [task.cell.name for task in rest if not task.after] == [
        "ours/MVTec/1_shot/seed_0",
        "ours/MVTec/0_shot/seed_1",
    ]


def test_a_member_that_has_not_run_is_run_with_its_ensemble(mvtec_root, tmp_path):
    models = {
        "PaDiM": Entry("anomalib.models.Padim"),
        "mix": Entry("anomalib_zsad.Ensemble", members=["PaDiM", "PaDiM"]),
    }
    benchmark, runner = grid(mvtec_root, models=models, seeds=[0]), Runner()
    mix = next(cell for cell in benchmark.cells() if cell.model == "mix")
    assert run_cell(benchmark, tmp_path, mix, runner) == 0
    assert runner.asked == [f"PaDiM/MVTec/{mix.category}/seed_0", mix.name]


def test_sigterm_ends_a_benchmark_and_all_that_it_has_started(mvtec_root, tmp_path, monkeypatch):
    config = tmp_path / "grid.yaml"
    config.write_text(yaml.safe_dump(asdict(grid(mvtec_root))))
    write = f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    sleeps = f"import os, pathlib, time; {write}; time.sleep(60)"
    monkeypatch.setattr(run_benchmark, "__defaults__", (None, "auto", (PYTHON, "-c", sleeps)))
    parent = FORK.Process(
        target=lambda: sys.exit(main(["benchmark", "-c", str(config), "--out", str(tmp_path / "out")]))
    )
    parent.start()
    cell = awaited(tmp_path / "pid", 60)
    parent.terminate()
    parent.join(30)
    assert parent.exitcode == 128 + signal.SIGTERM
    assert is_gone(cell)
    assert not list((tmp_path / "out" / "running").iterdir())
