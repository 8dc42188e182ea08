"""Texts as open_clip tokenizes them, without a tensor that is read."""

import open_clip
import pytest
import torch
from torch._subclasses import FakeTensorMode

from anomalib_zsad.clip.tokens import tokens_of

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
