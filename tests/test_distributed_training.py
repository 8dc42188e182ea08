"""Two processes train as one does with batches of twice the size."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from tests.distributed_training import METHODS, TESTED, train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def together(small_clip: Path, visa_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the training with two processes."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-W", "ignore", "-m", "tests.distributed_training", small_clip, visa_root, folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        list(map(str, command)),
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


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_losses_and_weights_are_those_of_one_process(name: str, together: Path, alone: Path) -> None:
    first, second, single = (
        json.loads(path.read_text())
        for path in (together / f"{name}-0.json", together / f"{name}-1.json", alone / f"{name}-0.json")
    )
    assert [sorted(a + b) for a, b in zip(first["images"], second["images"], strict=True)] == [
        sorted(images) for images in single["images"]
    ]
    assert len(single["steps"]) == 6
    for ours, theirs, expected in zip(first["steps"], second["steps"], single["steps"], strict=True):
        assert ours == theirs
        assert ours == pytest.approx(expected, abs=1e-4)
    found, wanted = load_file(together / f"{name}.safetensors"), load_file(alone / f"{name}.safetensors")
    assert found.keys() == wanted.keys()
    for key in wanted:
        if key.endswith("to_k.bias"):
            continue  # It cancels in the softmax: its gradient is what rounding leaves, and Adam makes steps of that.
        assert (found[key] - wanted[key]).abs().max() < 1e-4, key


@pytest.mark.slow
def test_one_checkpoint_is_written(together: Path) -> None:
    for name in METHODS:
        folder = Path(name, METHODS[name][0].__name__, "VisA", "v0")
        assert [path.name for path in (together / "process0" / folder).rglob("*.ckpt")] == ["model.ckpt"]
        assert not list((together / "process1" / folder).iterdir())


@pytest.mark.slow
def test_results_are_those_of_one_process(together: Path, alone: Path) -> None:
    several, single = (folder / "process0" / TESTED / TESTED / "VisA" / "v0" for folder in (together, alone))
    # A pixel whose score is nearly that of another one may change places with it.
    for name, tolerance in (("scores.csv", 1e-4), ("metrics.csv", 1e-2)):
        pd.testing.assert_frame_equal(pd.read_csv(several / name), pd.read_csv(single / name), atol=tolerance, rtol=0)
    assert pd.read_csv(several / "metrics.csv")["images"].tolist() == [2, 2, 2, 6]
    assert [path.name for path in (together / "process0").rglob("predictions*")] == ["predictions.csv"]
    found, wanted = (pd.read_csv(folder / "predictions.csv") for folder in (several, single))
    # The normalised scores are steeper where the threshold is near 0 or 1.
    pd.testing.assert_frame_equal(found, wanted, atol=1e-3, rtol=0)
    pictures = [sorted(path.relative_to(each) for path in each.rglob("images/**/*.*")) for each in (several, single)]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) >= 6
