import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from anomalib_zsad.models.parts import adapter_file
from anomalib_zsad.models.parts.adapter_file import load_adapter, save_adapter


def test_an_adapter_file_gives_back_what_was_saved(tmp_path):
    tensors = {"a": torch.randn(3, 4).T, "b": torch.ones(2, requires_grad=True)}
    tensors["shared"] = tensors["a"]
    save_adapter(tmp_path / "w.safetensors", tensors, {"method": "AFClip", "note": "n"})
    read, metadata = load_adapter(tmp_path / "w.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert metadata == {"format": "anomalib_zsad", "method": "AFClip", "note": "n"}


def test_a_foreign_or_truncated_adapter_file_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    save_adapter(path, {"a": torch.ones(100)}, {"method": "AFClip"})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"w\.safetensors: expected an adapter file .* truncated"):
        load_adapter(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"w\.safetensors: .* got a safetensors file with the metadata \{\}"):
        load_adapter(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors: expected an adapter file"):
        load_adapter(tmp_path / "gone.safetensors")


def test_a_disk_that_is_full_is_told_in_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(adapter_file, "save_file", full)
    with pytest.raises(OSError, match=r"w\.safetensors: the adapter file cannot be written \(No space"):
        save_adapter(tmp_path / "w.safetensors", {"a": torch.ones(1)}, {"method": "AFClip"})
    assert not list(tmp_path.iterdir())
