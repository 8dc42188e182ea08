"""Texts as open_clip tokenizes them, without a tensor that is read; and with tokenizers of the hub, as of SigLIP."""

import sys
from types import ModuleType, SimpleNamespace

import open_clip
import pytest
import torch
from torch._subclasses import FakeTensorMode

from anomalib_zsad.clip.tokens import _of_hub, hub_tokenizer, hub_tokens_of, tokens_of

TEXTS = ("a photo of a damaged bottle.", "A  Scratch", "word " * 100, "ümlaut <end_of_text> 7", "")


@pytest.mark.parametrize("length", [16, 77])
def test_tokens_are_those_of_open_clip(length):
    assert torch.equal(tokens_of(TEXTS, length), open_clip.tokenize(list(TEXTS), length))


def test_trimmed_ones_end_where_the_longest_text_does():
    trimmed = tokens_of(TEXTS[:2], 77, trim=True)
    assert torch.equal(trimmed, open_clip.tokenize(list(TEXTS[:2]))[:, : trimmed.shape[1]])
    assert trimmed[0, -1] == open_clip.tokenize(TEXTS[0]).max()
    assert tokens_of(TEXTS, 77, trim=True).shape == (5, 77)


def test_tensors_without_data_are_enough():
    with FakeTensorMode():
        assert tokens_of(TEXTS[:2], 77, trim=True).shape == tokens_of(TEXTS[:2], 77, trim=True).shape


BACKBONE, NAME = "ViT-B-16-SigLIP", "timm/ViT-B-16-SigLIP"


class Letters:
    """Stands for a tokenizer of the hub: numbers of letters, padded."""

    def __call__(self, texts, max_length, **options):
        rows = [[ord(letter) for letter in text][:max_length] for text in texts]
        padded = [[*row, *[1] * (max_length - len(row))] for row in rows]
        return SimpleNamespace(input_ids=torch.tensor(padded))

    batch_encode_plus = __call__  # of open_clip before 3


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """The names that tokenizers are loaded by, by a double of the package that loads them."""
    names = []

    def from_pretrained(name, **options):
        names.append(str(name))
        return Letters()

    transformers = ModuleType("transformers")
    transformers.AutoTokenizer = SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path))
    _of_hub.cache_clear()
    yield names
    _of_hub.cache_clear()


def test_it_is_that_of_open_clips_configuration_and_loaded_once(loaded):
    tokens = hub_tokens_of(("a part", "b"), BACKBONE, 64)
    assert torch.equal(hub_tokens_of(("a part",), BACKBONE, 64), tokens[:1])
    assert loaded == [NAME]
    assert tokens.shape == (2, 64)
    assert tokens[1, :3].tolist() == [ord("b"), 1, 1]


def test_a_folder_among_the_weights_is_preferred(loaded, tmp_path):
    folder = tmp_path / BACKBONE / "tokenizer"
    folder.mkdir(parents=True)
    assert hub_tokens_of(("b",), BACKBONE, 16).shape == (1, 16)
    assert loaded == [str(folder)]


def test_what_is_missing_is_said(loaded, monkeypatch, tmp_path):
    def offline(name, **options):
        msg = "We could not connect\nmore lines"
        raise OSError(msg)

    monkeypatch.setattr(sys.modules["transformers"].AutoTokenizer, "from_pretrained", offline)
    words = rf"tokenizer of {BACKBONE}, {NAME} on the hub, cannot be loaded \(We could not connect\): it needs the "
    words += rf"package transformers .* tokenizer.json.* in {tmp_path}.{BACKBONE}.tokenizer$"
    with pytest.raises(FileNotFoundError, match=words):
        hub_tokens_of(("b",), BACKBONE, 64)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FileNotFoundError, match=r"cannot be loaded \(.*transformers.*\): it needs the package"):
        hub_tokens_of(("b",), BACKBONE, 64)


@pytest.mark.parametrize(("backbone", "expected"), [(BACKBONE, BACKBONE), ("EVA02-B-16", None), ("ViT-B-16", None)])
def test_which_tokenizers_are_of_the_hub(backbone, expected):
    assert hub_tokenizer(backbone) == expected
