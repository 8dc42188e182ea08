from types import SimpleNamespace

import pytest
import torch

from anomalib_zsad.models.parts.deep_prompts import DeepPrompts


def test_deep_tokens_replace_what_follows_the_start_in_the_input_of_later_blocks():
    deep = DeepPrompts(SimpleNamespace(text_width=8, start_tokens=1), blocks=2, length=3, prompt_length=4)
    stream = torch.randn(5, 9, 8)
    for block in (1, 2):
        edited = deep.edit(block, stream)
        assert (edited == stream).all(-1).all(0).tolist() == [not 1 <= place <= 3 for place in range(9)]
        assert torch.equal(edited[4, 1:4], deep.tokens[block - 1])
    assert deep.edit(3, stream) is stream


@pytest.mark.parametrize("length", [0, 5])
def test_tokens_that_would_replace_words_are_refused(length):
    with pytest.raises(ValueError, match=f"deep_prompt_length must lie between 1 and prompt_length=4, got {length}"):
        DeepPrompts(SimpleNamespace(text_width=8, start_tokens=1), blocks=2, length=length, prompt_length=4)
