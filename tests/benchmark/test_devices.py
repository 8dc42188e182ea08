from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest
import torch

from anomalib_zsad.benchmark.devices import Devices


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_cells_that_run_at_the_same_time_have_devices_of_their_own(two_gpus, tmp_path):
    devices = Devices(2, tmp_path)
    with devices.one() as first, devices.one("gpu") as second:
        assert sorted([first, second]) == [[0], [1]]
    with devices.one() as again:
        assert again in ([0], [1])


def test_more_cells_than_devices_share_them_evenly(two_gpus, tmp_path):
    devices = Devices(4, tmp_path)
    with devices.one() as a, devices.one() as b, devices.one() as c, devices.one() as d:
        assert sorted([a, b, c, d]) == [[0], [0], [1], [1]]


def test_who_comes_too_early_waits_for_a_place(two_gpus, tmp_path):
    devices, running, most = Devices(2, tmp_path), set(), []

    def cell(number):
        with devices.one() as (device,):
            assert device not in running
            running.add(device)
            most.append(len(running))
            sleep(0.02)
            running.remove(device)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(cell, range(6)))
    assert max(most) <= 2


@pytest.mark.parametrize("accelerator", ["cpu", "mps"])
def test_without_cuda_there_is_nothing_to_hand_out(two_gpus, tmp_path, accelerator):
    with Devices(2, tmp_path / "locks").one(accelerator) as device:
        assert device == 1
    assert not (tmp_path / "locks").exists()


def test_a_single_device_is_shared(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    devices = Devices(2, tmp_path)
    with devices.one() as first, devices.one() as second:
        assert first == second == 1
