import pickle
import zipfile
from contextlib import suppress

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from anomalib_zsad.clip.layout import architecture_of, clip_of, read_state_dict

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the format of OpenAI's files

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 50, "width": 128, "heads": 2, "layers": 3},
}


class Archive(nn.Module):
    """Stands for OpenAI's archive: the weights, and tensors that are none."""

    def __init__(self, clip):
        super().__init__()
        for name, child in clip.named_children():
            setattr(self, name, Tree(child) if not isinstance(child, nn.Embedding) else child)
        for name, parameter in clip.named_parameters(recurse=False):
            setattr(self, name, parameter)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(28))
        self.attn_mask = torch.zeros(3, 3)  # neither a parameter nor a buffer, but in the archive

    def forward(self, x):
        return x


class Tree(nn.Module):
    """The parameters of a module under their names, without its code."""

    def __init__(self, module):
        super().__init__()
        for name, child in module.named_children():
            self.add_module(name, Tree(child))
        for name, parameter in module.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def forward(self, x):
        return x


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return open_clip.CLIP(**CONFIG)


@pytest.fixture(scope="module")
def weights(clip):
    return {key: value.detach().clone() for key, value in clip.state_dict().items()}


def save_safetensors(path, weights, clip):
    save_file(weights, path)


def save_plain(path, weights, clip):
    torch.save(weights, path)


def save_checkpoint(path, weights, clip):
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in weights.items()}}, path)


def save_custom_text(path, weights, clip):
    towers = {key: f"text.{key}" for key in weights if not key.startswith(("visual.", "logit_scale"))}
    torch.save({towers.get(key, key): value for key, value in weights.items()}, path)


def save_archive(path, weights, clip):
    torch.jit.save(torch.jit.script(Archive(clip)), path)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("clip.safetensors", save_safetensors),
        ("clip.pt", save_plain),
        ("clip.bin", save_checkpoint),
        ("clip.pth", save_custom_text),
        ("jit.pt", save_archive),
    ],
)
def test_every_layout_gives_the_same_weights_and_architecture(tmp_path, clip, weights, name, save):
    save(tmp_path / name, weights, clip)
    read = read_state_dict(tmp_path / name)
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[key], weights[key]) for key in weights)
    assert architecture_of(read) == CONFIG


def test_half_precision_becomes_float32(tmp_path, weights):
    torch.save({key: value.half() for key, value in weights.items()}, tmp_path / "half.pt")
    assert {value.dtype for value in read_state_dict(tmp_path / "half.pt").values()} == {torch.float32}


@settings(max_examples=15)
@given(
    grid=st.integers(1, 4),
    patch=st.sampled_from([7, 14, 16]),
    layers=st.integers(1, 3),
    width=st.sampled_from([64, 128]),
    ratio=st.sampled_from([None, 2.0, 4.9231, 4.3637]),
    text_layers=st.integers(1, 2),
    context=st.integers(4, 77),
)
def test_a_model_built_from_the_architecture_takes_the_weights(grid, patch, layers, width, ratio, text_layers, context):
    vision = {"image_size": grid * patch, "layers": layers, "width": width, "patch_size": patch}
    vision |= {"mlp_ratio": ratio} if ratio else {}
    text = {"context_length": context, "vocab_size": 20, "width": 64, "heads": 1, "layers": text_layers}
    with torch.device("meta"):
        made = open_clip.CLIP(48, vision, text)
    rebuilt = clip_of(made.state_dict())
    rebuilt.load_state_dict(made.state_dict(), strict=True, assign=True)
    assert rebuilt.visual.grid_size == made.visual.grid_size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("ln_final.bias"), r"ln_final\.bias of shape \(128,\) is missing \(1 such"),
        (lambda w: w.pop("visual.proj"), r"visual\.proj is missing"),
        (
            lambda w: w.update({"text_projection": torch.zeros(128, 5)}),
            r"text_projection should have shape \(128, 32\)",
        ),
        (lambda w: w.update({"visual.positional_embedding": torch.zeros(4, 64)}), "no square grid"),
        (lambda w: w.update({"visual.transformer.resblocks.0.ls_1.gamma": torch.ones(64)}), "ls_1.gamma is not part"),
        (lambda w: w.update({"visual.layer1.0.conv1.weight": torch.ones(1)}), "found a ResNet"),
        (lambda w: w.update({"visual.trunk.blocks.0.weight": torch.ones(1)}), "found a timm tower"),
        (lambda w: w.clear() or w.update({"fc.weight": torch.ones(1)}), "found fc.weight"),
        (lambda w: w.clear(), "found no tensor"),
    ],
)
def test_weights_of_anything_else_are_refused(weights, change, message):
    changed = dict(weights)
    change(changed)
    with pytest.raises(ValueError, match=f"^some.pt: only complete CLIP vision transformers.*{message}"):
        clip_of(changed, "some.pt")


@settings(max_examples=60)
@given(st.data())
def test_any_tensor_of_another_shape_ends_in_a_sentence(data):
    with torch.device("meta"):
        state = open_clip.CLIP(**CONFIG).state_dict()
    key = data.draw(st.sampled_from(sorted(state)))
    shape = tuple(data.draw(st.lists(st.integers(0, 65), max_size=4)))
    state[key] = torch.empty(shape, device="meta")
    with suppress(RefusedError):
        told(state).load_state_dict(state, strict=True, assign=True)


class RefusedError(Exception):
    """The sentence that a user should see."""


def told(state):
    try:
        return clip_of(state, "some.pt")
    except ValueError as error:
        if str(error).startswith("some.pt: only complete CLIP vision transformers"):
            raise RefusedError from error
        raise


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('foreign code ran')",)


@pytest.mark.parametrize("name", ["clip.safetensors", "clip.pt", "jit.pt"])
def test_a_truncated_file_is_named(tmp_path, clip, weights, name):
    save = {"clip.safetensors": save_safetensors, "clip.pt": save_plain, "jit.pt": save_archive}[name]
    path = tmp_path / name
    save(path, weights, clip)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{name}: expected the weights of a CLIP .* truncated or of another kind"):
        read_state_dict(path)


def test_foreign_files_are_refused_and_their_code_does_not_run(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"a": Evil()}, path)
    with pytest.raises(ValueError, match=r"evil\.pt"):
        read_state_dict(path)
    path.write_bytes(pickle.dumps(Evil(), 2))
    with pytest.raises(ValueError, match=r"evil\.pt"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ValueError, match=r"evil\.pt"):
        read_state_dict(path)


def test_a_file_without_named_tensors_is_refused(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt: expected a state dict of named tensors, got list"):
        read_state_dict(tmp_path / "list.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pt: expected a file"):
        read_state_dict(tmp_path / "gone.pt")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_finite_numbers_are_named(tmp_path, weights, number):
    damaged = {**weights, "visual.proj": torch.full_like(weights["visual.proj"], number)}
    torch.save(damaged, tmp_path / "nan.pt")
    count = weights["visual.proj"].numel()
    with pytest.raises(ValueError, match=rf"nan\.pt: expected finite weights, got {count} others in visual\.proj"):
        read_state_dict(tmp_path / "nan.pt")
