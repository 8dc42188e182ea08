from contextlib import ExitStack

import pytest
import torch

from anomalib_zsad.benchmark.device_lock import own_device


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_cells_that_run_at_the_same_time_have_devices_of_their_own(two_gpus, tmp_path):
    with own_device(folder=tmp_path) as first, own_device("gpu", tmp_path) as second:
        assert [first, second] == [[0], [1]]
    with own_device(folder=tmp_path) as again:
        assert again == [0]


def test_more_cells_than_devices_share_them_evenly(two_gpus, tmp_path):
    with ExitStack() as stack:
        assert [stack.enter_context(own_device(folder=tmp_path)) for _ in range(5)] == [[0], [1], [0], [1], [0]]


@pytest.mark.parametrize("accelerator", ["cpu", "mps"])
def test_without_cuda_there_is_nothing_to_hand_out(two_gpus, tmp_path, accelerator):
    with own_device(accelerator, tmp_path / "locks") as device:
        assert device == 1
    assert not (tmp_path / "locks").exists()


def test_a_single_device_is_shared(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with own_device(folder=tmp_path) as first, own_device(folder=tmp_path) as second:
        assert first == second == 1
