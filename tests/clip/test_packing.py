"""A packed file gives back the weights that went into it, and refuses words that do not belong together."""

import pytest
import torch
from safetensors.torch import save_file

from anomalib_zsad.clip.layout import architecture_of, read_state_dict
from anomalib_zsad.clip.packing import VOCABULARY, pack, unpack
from tests.support.small_clip import ARCHITECTURE, small_clip_state

NUMBERS = torch.tensor([3, 320, 49406, 49407])


@pytest.fixture(scope="module")
def packed():
    state = small_clip_state()
    return pack(state, NUMBERS, other=state["token_embedding.weight"].mean(0))


def test_a_packed_file_is_read_like_any_other(packed, tmp_path):
    save_file(packed, tmp_path / "clip.safetensors")
    state = small_clip_state()
    read = read_state_dict(tmp_path / "clip.safetensors")

    table, whole = read.pop("token_embedding.weight"), state.pop("token_embedding.weight")
    assert table.shape == whole.shape == (VOCABULARY, 64)
    torch.testing.assert_close(table[NUMBERS], whole[NUMBERS], atol=1e-4, rtol=1e-3)
    others = torch.ones(VOCABULARY, dtype=torch.bool)
    others[NUMBERS] = False
    torch.testing.assert_close(table[others], whole.mean(0).expand(len(table) - 4, -1), atol=1e-5, rtol=1e-3)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(read[name], tensor, atol=1e-3, rtol=1e-3)
    config = architecture_of({**read, "token_embedding.weight": table})
    assert config["vision_cfg"]["layers"] == ARCHITECTURE["vision_cfg"]["layers"]


def test_a_packed_file_is_small(packed, tmp_path):
    save_file(packed, tmp_path / "clip.safetensors")
    elements = sum(tensor.numel() for name, tensor in small_clip_state().items() if name != "token_embedding.weight")
    assert (tmp_path / "clip.safetensors").stat().st_size < 2 * elements + 20_000


def test_other_weights_pass():
    state = small_clip_state()
    assert unpack(state) is state


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("numbers", None, "token_embedding.numbers is missing"),
        ("other", torch.zeros(63), "of shapes"),
        ("numbers", torch.tensor([1, 2, 3]), "of shapes"),
        ("numbers", torch.tensor([3, 3, 4, 5]), "distinct token numbers"),
        ("numbers", torch.tensor([5, 4, 7, 9]), "in rising order"),
        ("numbers", torch.tensor([-1, 4, 7, 9]), "token numbers below 49408"),
        ("numbers", torch.tensor([1, 4, 7, VOCABULARY]), "token numbers below 49408"),
    ],
)
def test_words_that_do_not_belong_together_are_refused(packed, tmp_path, name, value, fault):
    key = f"token_embedding.{name}"
    damaged = dict(packed)
    damaged.pop(key)
    save_file(damaged if value is None else {**damaged, key: value}, tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match=fault):
        read_state_dict(tmp_path / "clip.safetensors")
