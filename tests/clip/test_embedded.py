"""The small CLIP that comes with the package: found under any tag, checked, complete, and in the wheel."""

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from setuptools import build_meta

from anomalib_zsad import AFClip
from anomalib_zsad.clip import weights
from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.clip.digest import hash_file
from anomalib_zsad.clip.embedded import DIGESTS, embedded_file
from anomalib_zsad.clip.weights import locate, resolve, verify

FILE = embedded_file("zsad-tiny")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("tag", ["openai", "laion2b_s32b_b82k", "anything"])
def test_any_tag_gives_the_embedded_weights(tag):
    assert resolve("zsad-tiny", tag) == FILE
    assert verify(locate("zsad-tiny", tag)) == (DIGESTS["zsad-tiny"], True)


def test_nothing_is_written_beside_the_embedded_weights():
    resolve("zsad-tiny", "openai")
    assert not FILE.with_name(FILE.name + ".sha256").exists()


def test_damaged_weights_are_refused(monkeypatch, tmp_path):
    damaged = tmp_path / FILE.name
    damaged.write_bytes(FILE.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(weights, "embedded_file", lambda _: damaged)
    with pytest.raises(ValueError, match=f"expected SHA-256 {DIGESTS['zsad-tiny']}, got "):
        resolve("zsad-tiny", "openai")


def test_the_defaults_of_a_method_find_them():
    identity = AFClip(backbone="zsad-tiny", image_size=28).model.encoder.clip.identity
    assert identity["pretrained"] == "embedded"
    assert identity["sha256"] == DIGESTS["zsad-tiny"] == hash_file(FILE)
    assert identity["fingerprint"] != FrozenClip.load("zsad-tiny", None, 28).identity["fingerprint"]


def test_images_have_the_size_that_it_was_trained_at():
    model = AFClip(backbone="zsad-tiny", pretrained=None)
    assert model.model.encoder.clip.image_size == (168, 168)
    assert model.pre_processor(torch.rand(1, 3, 50, 60)).shape[-2:] == (168, 168)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_both_activations_tell_a_damaged_thing_from_a_good_one_in_words(activation):
    clip = FrozenClip.load("zsad-tiny", image_size=168, activation=activation)
    words = [
        "a photo of a good object",
        "an object without defect.",
        "a photo of a damaged object",
        "an object with defect.",
    ]
    tokens = clip.tokenize(words)
    features = clip.encode_text(clip.embed_tokens(tokens), tokens.argmax(-1))
    good, flawless, damaged, defect = torch.nn.functional.normalize(features, dim=-1)
    assert min(good @ flawless, damaged @ defect) > max(good @ damaged, flawless @ defect)


def test_every_tensor_is_half_precision_and_the_file_small():
    assert FILE.stat().st_size < 8_000_000
    with safe_open(FILE, "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118  # not a dict
    assert kinds.pop("token_embedding.numbers") == torch.int32
    assert set(kinds.values()) == {torch.float16}


@pytest.mark.slow
def test_the_wheel_holds_weights_and_card(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("anomalib_zsad", "pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY.md"):
        (source / name).symlink_to(ROOT / name)
    monkeypatch.chdir(source)
    wheel = tmp_path / build_meta.build_wheel(str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    folder = "anomalib_zsad/clip/embedded"
    assert sizes[f"{folder}/zsad-tiny.safetensors"] == FILE.stat().st_size
    assert sizes[f"{folder}/MODEL_CARD.md"] > 500
    assert wheel.stat().st_size < 8_000_000
