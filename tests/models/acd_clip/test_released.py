import os

import pytest
import torch

from anomalib_zsad.cli import main
from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.acd_clip.released import read_released
from tests.golden.golden_files import golden, golden_clip_file
from tests.support.contract import images


@pytest.fixture(scope="module")
def content():
    """A checkpoint as the authors publish them, for two groups."""
    tensors = {key.split("/", 1)[1]: value for key, value in golden("acdclip").items() if key.startswith("adapter/")}
    parts = {
        part: {key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith(part)}
        for part in ("text_adapter", "image_adapter")
    }
    return {"epoch": 20, **parts}


@pytest.fixture
def checkpoint(content, tmp_path):
    torch.save(content, tmp_path / "epoch_20.pth")
    return tmp_path / "epoch_20.pth"


@pytest.fixture
def clip(tmp_path):
    return golden_clip_file("acdclip", tmp_path / "clip.pt")


def test_every_tensor_gets_a_name_of_its_own(checkpoint, content):
    tensors = read_released(checkpoint)
    assert len(tensors) == len(content["text_adapter"]) + len(content["image_adapter"])
    theirs = content["image_adapter"]["lora_adapters.1.conv_lora_blocks.0.conv_lora_A.weight"]
    assert torch.equal(tensors["vision.mixed.1.adapter.branches.0.conv_down.weight"], theirs)


@torch.no_grad()
def test_a_converted_checkpoint_scores_as_the_published_one(checkpoint, clip, tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    assert main(["convert", "acd-clip", "--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: {len(read_released(checkpoint))} tensors, ")
    published = ACDClip.load_released(checkpoint, pretrained=clip, image_size=56)
    converted = ACDClip(pretrained=clip, image_size=56, weights=out)  # the file knows its number of groups
    assert torch.equal(published.model(images()).anomaly_map, converted.model(images()).anomaly_map)
    assert published.trained_on == converted.trained_on == ["unknown"]
    with pytest.raises(ValueError, match=r"weights\.safetensors: these weights do not fit"):
        ACDClip(pretrained=clip, image_size=56, n_groups=1, weights=out)


def test_weights_of_another_configuration_are_refused(checkpoint, clip):
    with pytest.raises(ValueError, match=r"epoch_20\.pth: these weights do not fit"):
        ACDClip.load_released(checkpoint, pretrained=clip, image_size=56, dynamic_fusion=False)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth: expected a checkpoint published by the authors"):
        read_released(tmp_path / "gone.pth")


@pytest.mark.parametrize("kept", [10, 1000])
def test_a_truncated_file_is_named(checkpoint, kept):
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"epoch_20\.pth: expected a checkpoint of ACD-CLIP, .* truncated"):
        read_released(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_adapter": None}, "with the tensors of image_adapter, found none"),
        ({"text_adapter": {"layer_norms.0.weight": [1.0]}}, "with the tensors of text_adapter, found none"),
        ({"text_adapter": {"prompt": torch.zeros(1)}}, "has no tensor text_adapter.prompt"),
    ],
)
def test_foreign_content_is_named(content, tmp_path, change, message):
    torch.save({**content, **change}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match=f"foreign.pth: expected a checkpoint of ACD-CLIP.*{message}"):
        read_released(tmp_path / "foreign.pth")


class Call:
    def __reduce__(self):
        return os.system, ("true",)


def test_a_pickle_that_asks_for_more_than_tensors_is_refused(content, tmp_path):
    torch.save({**content, "epoch": Call()}, tmp_path / "evil.pth")
    with pytest.raises(
        ValueError, match=r"evil\.pth: expected .* plain tensors, but reading it asks for posix\.system"
    ):
        read_released(tmp_path / "evil.pth")
