import io
import os
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from anomalib_zsad.clip.restricted import RefusedError
from anomalib_zsad.clip.torch_file import read_torch_file
from tests.support.pickled_call import Call

CONTENT = {
    "epoch": 3,
    "state": OrderedDict(a=torch.arange(6.0).view(2, 3).T, b=nn.Parameter(torch.ones(2).half()), c=torch.tensor(5)),
    "none": [torch.empty(0, 4), None, "text", torch.tensor([True, False])],
}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other) and not one.requires_grad
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return all(map(same, one, other)) if isinstance(one, list) else one == other


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_is_read(tmp_path, zipped):
    torch.save(CONTENT, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert same(read_torch_file(tmp_path / "a.pt"), CONTENT)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_module_is_its_state_dict(tmp_path, zipped):
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 1, bias=False)))
    torch.save(module, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    read = read_torch_file(tmp_path / "a.pt")
    assert read.keys() == module.state_dict().keys()
    assert all(torch.equal(read[key], value) for key, value in module.state_dict().items())


class Writer(nn.Module):
    """Loading its archive runs `__setstate__`, which writes to a file through a mapped tensor."""

    def __init__(self, path: str):
        super().__init__()
        self.path, self.written = path, 0.0

    @torch.jit.export
    def __getstate__(self):
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        self.written = float(torch.from_file(self.path, True, 8).copy_(torch.ones(8)).sum())

    def forward(self, x):
        return x


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_the_code_of_an_archive_does_not_run(tmp_path):
    target = tmp_path / "target"
    torch.jit.save(torch.jit.script(Writer(str(target))), tmp_path / "evil.pt")
    torch.jit.load(tmp_path / "evil.pt")
    assert target.exists(), "the archive must be able to write"
    target.unlink()
    with pytest.raises(ValueError, match="dict"):
        read_torch_file(tmp_path / "evil.pt")
    assert not target.exists()


class Patched(nn.Linear):
    """In its old format torch writes a patch for such a class where the source has changed."""

    dump_patches = True


def test_no_patch_of_a_class_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Patched, "__module__", "torch.nn.modules.linear")
    monkeypatch.setattr(nn.modules.linear, "Patched", Patched, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(Patched(1, 1), "old.pt", _use_new_zipfile_serialization=False)
    assert read_torch_file(tmp_path / "old.pt").keys() == {"weight", "bias"}
    assert [each.name for each in tmp_path.iterdir()] == ["old.pt"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, f"{os.system.__module__}.system"),
        (eval, "(__builtin__|builtins).eval"),
        (getattr, "(__builtin__|builtins).getattr"),
        (torch.load, "torch.serialization.load"),
        (torch.jit.load, "torch.jit._serialization.load"),
        (torch.hub.load_state_dict_from_url, "torch.hub.load_state_dict_from_url"),
        (nn.init.ones_, "torch.nn.init.ones_"),
        (pickle.loads, "_?pickle.loads"),
    ],
)
def test_a_pickle_that_asks_for_anything_else_is_refused(tmp_path, function, name, zipped):
    torch.save({"a": Call(function, "0")}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(RefusedError, match=f"^{name}$"):
        read_torch_file(tmp_path / "evil.pt")


class Claimed:
    """A storage as a pickle claims it to be."""

    def __init__(self, key="0", length=4, kind=torch.FloatStorage):
        self.id = "storage", kind, key, "cpu", length


class Pickler(pickle.Pickler):
    def persistent_id(self, item):
        return item.id if isinstance(item, Claimed) else None


def tensor(storage, shape=(4,), stride=(1,), offset=0):
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, OrderedDict())


def archive(path, content, compression=zipfile.ZIP_STORED, storage=bytes(16)):
    if not isinstance(content, bytes):
        stream = io.BytesIO()
        Pickler(stream, 2).dump(content)
        content = stream.getvalue()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", content)
        file.writestr("x/data/0", storage, compression)
        file.writestr("x/data/1", storage)
    return path


def doubled(times):
    value = []
    for _ in range(times):
        value = [value, value]
    return value


def test_the_files_that_lie_are_read_where_they_do_not(tmp_path):
    read = read_torch_file(archive(tmp_path / "a.pt", {"a": tensor(Claimed()), "b": tensor(Claimed("1"))}))
    assert read.keys() == {"a", "b"}
    assert torch.equal(read["b"], torch.zeros(4))


@pytest.mark.parametrize(
    "content",
    [
        tensor(Claimed(length=2**40), (2**40,)),
        tensor(Claimed(length=3)),
        tensor(Claimed(), (2**20, 2**20), (0, 0)),
        tensor(Claimed(), (5,)),
        tensor(Claimed(), offset=1),
        tensor(Claimed(), stride=(-1,), offset=3),
        tensor(Claimed(), (2**33, 2**33), (1, 1)),
        tensor(Claimed(), (2, 2), (1,)),
        tensor(Claimed("7")),
        tensor(Claimed("../data.pkl")),
        [tensor(Claimed()), tensor(Claimed(length=2, kind=torch.DoubleStorage), (2,))],
        [tensor(Claimed(), (4, 64), (1, 0)) for _ in range(99)],
        doubled(40),
        b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",
        b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"Ns.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".",
        b"]" * 5_000_000 + b".",
    ],
)
def test_sizes_that_lie_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"."):
        read_torch_file(archive(tmp_path / "a.pt", content))


def test_bombs_of_zip_are_refused(tmp_path):
    bomb = archive(tmp_path / "a.pt", tensor(Claimed(length=2**22), (2**22,)), zipfile.ZIP_DEFLATED, bytes(2**24))
    with pytest.raises(ValueError, match="data/0 is compressed"):
        read_torch_file(bomb)
    with zipfile.ZipFile(bomb, "w") as file:
        for number in range(100):
            file.writestr(f"x/{number:060000}", b"")
    with pytest.raises(ValueError, match="too long"):
        read_torch_file(bomb)


@pytest.mark.parametrize("name", ["torch._utils\n_rebuild_tensor_v2", "torch\nSize", "torch\nFloatStorage"])
def test_a_pickle_cannot_change_what_the_process_shares(tmp_path, name):
    # BUILD sets attributes on whatever is on the stack: here on what the pickle names.
    named = b"\x80\x02c" + name.encode() + b"\n"
    with suppress(ValueError):
        read_torch_file(archive(tmp_path / "a.pt", named + b"N}X\x07\x00\x00\x00taintedNs\x86b."))
    assert not hasattr(torch._utils._rebuild_tensor_v2, "tainted")
    assert not hasattr(read_torch_file(archive(tmp_path / "a.pt", named + b".")), "tainted")


@settings(max_examples=100)
@given(data=st.data(), zipped=st.booleans())
def test_a_damaged_file_ends_in_a_sentence(tmp_path_factory, data, zipped):
    stream = io.BytesIO()
    torch.save(CONTENT, stream, _use_new_zipfile_serialization=zipped)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.pt"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(ValueError):
        read_torch_file(path)
