import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from anomalib_zsad.benchmark import report, schedule
from anomalib_zsad.benchmark.child_process import PYTHON
from anomalib_zsad.benchmark.entries import Entry
from anomalib_zsad.benchmark.launch import Launcher
from anomalib_zsad.benchmark.run import run_benchmark
from anomalib_zsad.evaluation.table import METRICS
from tests.benchmark.test_run import grid

FAKE = Path(__file__).with_name("fake_cell.py")
NAMES = [f"{model}/MVTec/seed_{seed}" for model in "abc" for seed in (0, 1)]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(schedule, "LATENCY", 0.5)
    monkeypatch.setattr(report, "plot_bars", lambda *_: None)  # most of the work of a run whose results are made up


def run(mvtec_root, folder, out, does=None, seconds=0.0, **launcher):
    """Run six cells, of which some do something else at their first attempts."""
    benchmark = grid(
        mvtec_root, models={name: Entry("anomalib_zsad.AFClip") for name in "abc"}, launcher=Launcher(**launcher)
    )
    marks = {cell.name: benchmark.fingerprint(cell) for cell in benchmark.cells()}
    assert list(marks) == NAMES
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "script.json"
    script.write_text(json.dumps({"marks": marks, "metrics": METRICS, "does": does or {}, "seconds": seconds}))
    return run_benchmark(benchmark, out, command=[PYTHON, str(FAKE), str(script)])


def attempts(folder):
    """How often each cell was begun, and by which processes."""
    found = {}
    for path in sorted((folder / "attempts").iterdir()):
        found.setdefault(path.name.split("@")[0].replace("+", "/"), []).append(int(path.read_text()))
    return found


def test_cells_run_in_processes_of_this_machine_and_give_one_table(mvtec_root, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    rows, failures = run(mvtec_root, tmp_path / "one", Path("relative"))
    assert failures == {}
    assert set(rows["model"] + rows["seed"].astype(str)) == {"a0", "a1", "b0", "b1", "c0", "c1"}
    again, failures = run(mvtec_root, tmp_path / "two", tmp_path / "out", jobs=3)
    assert failures == {}
    pd.testing.assert_frame_equal(rows, again)
    for file in ("results.csv", "summary.csv", "results.md"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "work" / "relative" / file).read_bytes()
    run(mvtec_root, tmp_path / "two", tmp_path / "out", jobs=3)
    assert {name: len(times) for name, times in attempts(tmp_path / "two").items()} == dict.fromkeys(NAMES, 1)


def test_whatever_becomes_of_a_cell_is_told_and_costs_the_others_nothing(mvtec_root, tmp_path):
    does = dict(
        zip(NAMES, [["die"], ["die"] * 9, ["fail"], ["break"], ["write elsewhere"] * 9, ["taken", "die"]], strict=True)
    )
    rows, failures = run(mvtec_root, tmp_path, tmp_path / "out", does, jobs=2)
    known = {name: reason.replace(" on ", "@").split("@")[0] for name, reason in failures.items()}
    assert known == {NAMES[1]: "killed", NAMES[2]: "RuntimeError: no memory", NAMES[3]: "ended", NAMES[4]: "ended well"}
    assert failures[NAMES[1]].endswith("by SIGKILL (out of memory, or a time limit?), 2 times")
    assert failures[NAMES[3]].endswith("with status 1: ImportError: no torch here")
    assert failures[NAMES[4]].endswith(f"but left no result in {tmp_path / 'out'}: is it the same folder there?")
    assert [len(times) for times in attempts(tmp_path).values()] == [2, 2, 1, 1, 1, 3]
    assert set(zip(rows["model"], rows["seed"], strict=True)) == {("a", 0), ("c", 1)}
    assert f"- {NAMES[1]}: killed on " in (tmp_path / "out" / "results.md").read_text()


def test_a_failure_of_an_earlier_run_is_not_taken_for_one_of_this(mvtec_root, tmp_path):
    before = run(mvtec_root, tmp_path / "1", tmp_path / "out", {NAMES[0]: ["fail"]}, jobs=2)[1]
    after = run(mvtec_root, tmp_path / "2", tmp_path / "out", {NAMES[0]: ["die", "die"]}, jobs=2)[1]
    assert [*before, *after] == [NAMES[0]] * 2
    assert before[NAMES[0]] == "RuntimeError: no memory"
    assert after[NAMES[0]].startswith("killed on ")


def test_dask_gives_the_local_table_whatever_becomes_of_its_workers(mvtec_root, tmp_path):
    distributed = pytest.importorskip("distributed")
    expected = run(mvtec_root, tmp_path / "local", tmp_path / "expected", {NAMES[4]: ["die"] * 9}, jobs=2)
    does = {NAMES[1]: ["kill the worker"], NAMES[4]: ["die"] * 9}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        cluster.scale(2)  # the second worker comes while cells run already
        given = {"backend": "dask", "options": {"address": cluster.scheduler_address}, "seconds": 0.5}
        rows, failures = run(mvtec_root, tmp_path / "dask", tmp_path / "out", does, **given)
    pd.testing.assert_frame_equal(rows, expected[0])
    assert list(failures) == list(expected[1]) == [NAMES[4]]
    begun = attempts(tmp_path / "dask")
    least = {**dict.fromkeys(NAMES, 1), NAMES[1]: 2, NAMES[4]: 2}
    assert begun.keys() == least.keys()
    # dask begins a cell once more when it loses a busy worker out of sight
    assert all(least[name] <= len(times) <= least[name] + 1 for name, times in begun.items())
    assert len({worker for workers in begun.values() for worker in workers}) >= 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"jobs": 0}, "expected at least 1 job at a time, got 0"),
        ({"options": {"n": 1}}, "expected no options for the backend local, got {'n': 1}"),
        ({"backend": "submitit", "task": {"n": 1}}, "expected no task for the backend submitit"),
    ],
)
def test_a_launcher_that_cannot_be_meant_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Launcher(**given)


def test_an_engine_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ValueError, match="the backend ray needs the package ray: pip install ray"),
        Launcher(backend="ray").engine(tmp_path),
    ):
        pass
