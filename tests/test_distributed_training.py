"""Two processes train and test as one does with batches of twice the size."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.support.distributed_training import METHODS, SHOWN, train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def together(small_clip: Path, visa_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the training with two processes."""
    folder = tmp_path_factory.mktemp("together")
    script = [sys.executable, "-W", "ignore", "-m", "tests.support.distributed_training"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [*script, small_clip, visa_root, folder],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=540)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the process that Lightning started, too
            raise
    assert process.returncode == 0, output[-5000:]
    return folder


@pytest.fixture(scope="module")
def alone(small_clip: Path, visa_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the training with one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name in METHODS:
        train(name, small_clip, visa_root, folder, processes=1, batch_size=4)
    return folder


def run_of(name: str, folder: Path) -> Path:
    """The folder of results of a method: that of the first process."""
    return folder / "process0" / name / METHODS[name][0] / "VisA" / "v0"


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_weights_and_metrics_are_those_of_one_process(name: str, together: Path, alone: Path) -> None:
    several, single = run_of(name, together), run_of(name, alone)
    found, wanted = (
        torch.load(run / "weights" / "lightning" / "model.ckpt", weights_only=True)["state_dict"]
        for run in (several, single)
    )
    assert found.keys() == wanted.keys()
    for key in wanted:
        # The bias of keys cancels in the softmax: its gradient is what rounding leaves, and Adam makes steps of that.
        if key.startswith("model.") and wanted[key].numel() and not key.endswith("to_k.bias"):
            difference = (found[key] - wanted[key]).abs()
            assert difference.max() < 1e-4, key
            assert difference.mean() < 1e-6, key
    scores = [pd.read_csv(run / "scores.csv") for run in (several, single)]
    pd.testing.assert_frame_equal(*scores, atol=1e-5, rtol=0)
    # A pixel may change places with one whose score is nearly its own. Decisions are left out: an image that was held
    # out may have the threshold itself as its score.
    metrics = [
        pd.read_csv(run / "metrics.csv").filter(regex="images|_(AUROC|AP|F1Max|AUPRO)") for run in (several, single)
    ]
    pd.testing.assert_frame_equal(*metrics, atol=1e-3, rtol=0)
    assert pd.read_csv(several / "metrics.csv")["images"].tolist() == [2, 2, 2, 6]


@pytest.mark.slow
def test_one_process_writes(together: Path, alone: Path) -> None:
    for name in METHODS:
        assert [path.name for path in run_of(name, together).rglob("*.ckpt")] == ["model.ckpt"]
        other = together / "process1" / run_of(name, together).relative_to(together / "process0")
        assert not list(other.iterdir())
    assert [path.name for path in (together / "process0").rglob("predictions*")] == ["predictions.csv"]
    found, wanted = (pd.read_csv(run_of(SHOWN, folder) / "predictions.csv") for folder in (together, alone))
    # The normalised scores are steeper where the threshold is near 0 or 1.
    pd.testing.assert_frame_equal(found, wanted, atol=1e-3, rtol=0)
    pictures = [
        sorted(path.relative_to(run) for path in run.rglob("images/**/*.*"))
        for run in (run_of(SHOWN, together), run_of(SHOWN, alone))
    ]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) >= 6
