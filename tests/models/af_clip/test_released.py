import os
import pickle
import sys
import warnings
from importlib import import_module

import pytest
import torch
from torch import nn

from anomalib_zsad.models.af_clip.released import read_released
from tests.support.pickled_call import Call

WIDTH, HEADS, LENGTH, TEXT_WIDTH = 32, 8, 12, 24

AUTHORS_MODULE = """
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        inner = heads * dim_head
        self.heads, self.scale = heads, dim_head ** -0.5
        self.attend = nn.Softmax(dim=-1)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner, bias=False)
        self.to_v = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(0.0))

class PreNorm(nn.Module):
    def __init__(self, dim, attn):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = attn

class Adaptor(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.attention = PreNorm(dim, Attention(dim, heads, 8))
"""


@pytest.fixture
def authors(tmp_path, monkeypatch):
    """The authors' package, as it was when they saved their files; gone again before anything is read."""
    package = tmp_path / "authors" / "clip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "adaptor.py").write_text(AUTHORS_MODULE)

    def build():
        with monkeypatch.context() as patch:
            patch.syspath_prepend(package.parent)
            return import_module("clip.adaptor").Adaptor(WIDTH, HEADS)

    yield build
    forget_authors()


def forget_authors():
    sys.modules.pop("clip", None)
    sys.modules.pop("clip.adaptor", None)


@pytest.fixture
def released(authors, tmp_path):
    """Both files, and the state that went into them."""
    torch.manual_seed(0)
    prompt, adaptor = nn.Parameter(torch.randn(1, LENGTH, TEXT_WIDTH)), authors()
    torch.save(prompt, tmp_path / "visa_prompt.pt")
    torch.save(adaptor, tmp_path / "visa_adaptor.pt")
    state = {key: value.clone() for key, value in adaptor.state_dict().items()}
    forget_authors()
    return tmp_path / "visa_prompt.pt", tmp_path / "visa_adaptor.pt", prompt.detach(), state


def assert_read(prompt_file, adaptor_file, prompt, state):
    read = read_released(prompt_file, adaptor_file)
    ours = {
        "prompts.vectors": prompt,
        "adaptor.norm.weight": state["attention.norm.weight"],
        "adaptor.norm.bias": state["attention.norm.bias"],
        "adaptor.to_q.weight": state["attention.attn.to_q.weight"],
        "adaptor.to_k.weight": state["attention.attn.to_k.weight"],
        "adaptor.to_v.weight": state["attention.attn.to_v.weight"],
        "adaptor.to_out.weight": state["attention.attn.to_out.0.weight"],
        "adaptor.to_out.bias": state["attention.attn.to_out.0.bias"],
    }
    assert read.keys() == ours.keys()
    assert all(torch.equal(read[key], value) for key, value in ours.items())
    assert not any(tensor.requires_grad for tensor in read.values())


def test_the_authors_files_are_read_without_their_package(released):
    assert_read(*released)
    assert "clip.adaptor" not in sys.modules


def test_files_in_torchs_old_format_are_read_too(authors, tmp_path):
    prompt, adaptor = torch.randn(1, LENGTH, TEXT_WIDTH), authors()
    state = adaptor.state_dict()
    torch.save(prompt, tmp_path / "prompt.pt", _use_new_zipfile_serialization=False)
    torch.save(adaptor, tmp_path / "adaptor.pt", _use_new_zipfile_serialization=False)
    forget_authors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_read(tmp_path / "prompt.pt", tmp_path / "adaptor.pt", prompt, state)


def test_state_dicts_are_read_too(released, tmp_path):
    _, _, prompt, state = released
    torch.save({"prompt": prompt}, tmp_path / "prompt.pt")
    torch.save(state, tmp_path / "adaptor.pt")
    assert_read(tmp_path / "prompt.pt", tmp_path / "adaptor.pt", prompt, state)


def test_half_precision_becomes_float32(released, tmp_path):
    prompt_file, _, _, state = released
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "half.pt")
    assert {value.dtype for value in read_released(prompt_file, tmp_path / "half.pt").values()} == {torch.float32}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, f"{os.system.__module__}.system"),
        (eval, "(__builtin__|builtins).eval"),
    ],
)
def test_a_pickle_that_asks_for_anything_else_is_refused(released, tmp_path, function, name, zipped):
    prompt_file, adaptor_file, *_ = released
    evil = tmp_path / "evil.pt"
    torch.save({"a": Call(function, "0")}, evil, _use_new_zipfile_serialization=zipped)
    for files in ((evil, adaptor_file), (prompt_file, evil)):
        with pytest.raises(ValueError, match=rf"evil\.pt: refused, because reading it asks for {name}, which"):
            read_released(*files)


def test_refused_code_does_not_run(released, tmp_path):
    mark = tmp_path / "it_ran"
    torch.save(Call(os.mkdir, str(mark)), tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"refused.*mkdir"):
        read_released(tmp_path / "evil.pt", released[1])
    assert not mark.exists()


def test_a_class_of_the_authors_is_never_called(released, tmp_path, authors):
    authors()
    torch.save(Call(sys.modules["clip.adaptor"].Adaptor, 32, 8), tmp_path / "evil.pt")
    forget_authors()
    with pytest.raises(ValueError, match=r"evil\.pt: expected a file released"):
        read_released(released[0], tmp_path / "evil.pt")


def test_a_pickle_cannot_change_what_the_process_shares(released, tmp_path):
    # BUILD sets attributes on whatever is on the stack: here on a function of torch.
    changed = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x07\x00\x00\x00taintedNs\x86b."
    with pytest.raises(ValueError, match="expected"):
        read_released(raw(tmp_path, changed), released[1])
    assert not hasattr(torch._utils._rebuild_tensor_v2, "tainted")


def raw(folder, content):
    """A file of torch's old format whose object is the given pickle."""
    torch.save(0, folder / "raw.pt", _use_new_zipfile_serialization=False)
    whole = (folder / "raw.pt").read_bytes()
    (folder / "raw.pt").write_bytes(whole.replace(pickle.dumps(0, 2), content, 1))
    assert content in (folder / "raw.pt").read_bytes()
    return folder / "raw.pt"


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kept", [0, 1, 10, 0.5])
def test_a_truncated_file_is_named(released, which, kept):
    path = released[which]
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=rf"{path.name}: expected a file released"):
        read_released(*released[:2])


def test_a_missing_file_is_named(released, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pt: expected a file released"):
        read_released(tmp_path / "gone.pt", released[1])


def test_swapped_files_are_told(released):
    prompt_file, adaptor_file, *_ = released
    with pytest.raises(ValueError, match=r"visa_adaptor\.pt: expected the prompt .* one tensor of shape \(1, M, Ct\)"):
        read_released(adaptor_file, prompt_file)
    with pytest.raises(ValueError, match=r"visa_prompt\.pt: expected a module or a state dict of AF-CLIP, got"):
        read_released(prompt_file, prompt_file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("attention.norm.bias"), r"attention\.norm\.bias has shape none, it is missing"),
        (lambda s: s.update({"attention.attn.to_k.weight": torch.ones(64, 8)}), r"to_k\.weight has shape \(64, 8\)"),
        (lambda s: s.update({"extra": torch.ones(1)}), r"extra has shape \(1,\) where no such tensor belongs"),
        (lambda s: s.update({"attention.attn.to_q.weight": torch.ones(3)}), "shape"),
        (lambda s: s.clear(), "expected a module or a state dict"),
        (lambda s: s.update({"attention.norm.bias": 3}), "expected a module or a state dict"),
    ],
)
def test_an_adaptor_with_other_tensors_is_refused(released, tmp_path, change, message):
    prompt_file, _, _, state = released
    change(state)
    torch.save(state, tmp_path / "changed.pt")
    with pytest.raises(ValueError, match=rf"changed\.pt: .*{message}"):
        read_released(prompt_file, tmp_path / "changed.pt")


@pytest.mark.parametrize("shape", [(12, 24), (2, 12, 24), (1, 1, 12, 24)])
def test_a_prompt_of_another_shape_is_refused(released, tmp_path, shape):
    torch.save(torch.zeros(shape), tmp_path / "p.pt")
    with pytest.raises(ValueError, match=r"p\.pt: expected the prompt of AF-CLIP"):
        read_released(tmp_path / "p.pt", released[1])
