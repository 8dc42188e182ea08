import pytest
import torch

from anomalib_zsad.functional.devices import device_named


def test_a_device_is_found_by_its_name(monkeypatch):
    assert device_named("cpu") == device_named(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: None)
    assert device_named("auto") == torch.device("cpu")
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: torch.device("cuda"))
    assert device_named("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"device: expected 'auto' or a device of this machine, got '{name}'"):
        device_named(name)
