import os
import re

import pytest
import torch

from anomalib_zsad import AnomalyClip
from anomalib_zsad.cli import main
from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.anomaly_clip.released import read_released, settings_in
from tests.support.small_clip import IMAGE_SIZE

WIDTH, LENGTH = 64, 12


@pytest.fixture(scope="module")
def words(small_clip):
    """Embeddings of both prompts as the authors keep them, over the small CLIP."""
    clip = FrozenClip.load(pretrained=small_clip, image_size=IMAGE_SIZE)
    return clip.embed_tokens(clip.tokenize([f"{'X ' * LENGTH}{state}" for state in ("object.", "damaged object.")]))


@pytest.fixture
def state(words):
    """What the authors' prompt learner holds, with one set of deep tokens."""
    torch.manual_seed(0)
    found = {f"ctx_{each}": torch.randn(1, 1, LENGTH, WIDTH) for each in ("pos", "neg")}
    for each, embedded in zip(("pos", "neg"), words, strict=True):
        found[f"token_prefix_{each}"] = embedded[None, None, :1]
        found[f"token_suffix_{each}"] = embedded[None, None, 1 + LENGTH :]
        found[f"tokenized_prompts_{each}"] = torch.zeros(1, 1, 77, dtype=torch.int32)
    unused = {"weight": torch.ones(896, WIDTH), "bias": torch.ones(896)}
    found |= {f"compound_prompt_projections.0.{name}": value for name, value in unused.items()}
    return {**found, "compound_prompts_text.0": torch.randn(4, WIDTH)}


@pytest.fixture
def write(tmp_path):
    def saved(state, **options):
        torch.save({"prompt_learner": state}, tmp_path / "epoch_15.pth", **options)
        return tmp_path / "epoch_15.pth"

    return saved


@pytest.mark.parametrize("zipped", [True, False])
def test_the_authors_tensors_are_read(state, write, zipped):
    released = read_released(write(state, _use_new_zipfile_serialization=zipped))
    vectors = torch.cat([state["ctx_pos"][0], state["ctx_neg"][0]])
    assert torch.equal(released.tensors["prompts.vectors"], vectors)
    assert torch.equal(released.tensors["prompts.deep.tokens"], state["compound_prompts_text.0"][None])
    assert settings_in(released.tensors) == {"prompt_length": 12, "prompt_depth": 2, "deep_prompt_length": 4}


def test_sets_are_in_the_order_of_their_numbers_and_may_be_none(state, write):
    deep = {f"compound_prompts_text.{i}": torch.full((4, WIDTH), float(i)) for i in reversed(range(11))}
    tensors = read_released(write({**state, **deep})).tensors
    assert tensors["prompts.deep.tokens"][:, 0, 0].tolist() == list(range(11))
    del state["compound_prompts_text.0"]
    assert settings_in(read_released(write(state)).tensors) == {"prompt_length": 12, "prompt_depth": 1}


@torch.no_grad()
def test_a_model_is_built_as_it_was_trained(state, write, small_clip):
    model = AnomalyClip.load_released(write(state), pretrained=small_clip, image_size=IMAGE_SIZE)
    assert torch.equal(model.model.prompts.vectors[1], state["ctx_neg"][0, 0])
    assert torch.equal(model.model.prompts.deep.tokens[0], state["compound_prompts_text.0"])
    assert model.trained_on == ["unknown"]


def test_the_command_makes_an_adapter_file_of_it(state, write, small_clip, tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    assert main(["convert", "anomaly-clip", "--checkpoint", str(write(state)), "--out", str(out)]) == 0
    assert f"{out}: 2 tensors, {2 * 12 * 64 + 4 * 64} parameters" in capsys.readouterr().out
    model = AnomalyClip(pretrained=small_clip, image_size=IMAGE_SIZE, weights=out)
    assert torch.equal(model.model.prompts.vectors[1], state["ctx_neg"][0, 0])
    assert model.hparams["prompt_depth"] == 2  # of the record


def test_the_words_of_another_backbone_are_refused(state, write, small_clip, other_clip):
    given = {"image_size": IMAGE_SIZE}
    with pytest.raises(ValueError, match=r"epoch_15\.pth: expected a checkpoint over this backbone and these words"):
        AnomalyClip.load_released(write(state), pretrained=other_clip, **given)
    with pytest.raises(ValueError, match=r"epoch_15\.pth: expected a checkpoint over this backbone and these words"):
        AnomalyClip.load_released(write(state), pretrained=small_clip, states=("thing.", "damaged thing."), **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("ctx_neg"), "ctx_neg of shape (1, 1, 12, 64), got none"),
        (lambda s: s.pop("token_suffix_neg"), "token_suffix_neg of shape (1, 1, 64, 64), got none"),
        (
            lambda s: s.update({"ctx_neg": torch.ones(1, 1, 3, 64)}),
            "ctx_neg of shape (1, 1, 12, 64), got (1, 1, 3, 64)",
        ),
        (lambda s: s.update({"ctx_pos": torch.ones(3)}), "ctx_pos of shape (1, 1, 'n', 'n'), got (3,)"),
        (lambda s: s.update({"extra": torch.ones(1)}), "extra of shape none, got (1,)"),
        (
            lambda s: s.update({"compound_prompts_text.2": torch.ones(4, 64)}),
            "compound_prompts_text.1 of shape (4, 64), got none",
        ),
        (
            lambda s: s.update({"compound_prompts_text.1": torch.ones(3, 64)}),
            "compound_prompts_text.1 of shape (4, 64), got (3, 64)",
        ),
        (lambda s: s.update({"ctx_pos": 3}), "with the tensors of prompt_learner, found none"),
    ],
)
def test_other_tensors_are_refused_by_name(state, write, change, message):
    change(state)
    with pytest.raises(ValueError, match=rf"epoch_15\.pth: expected a checkpoint of .*{re.escape(message)}"):
        read_released(write(state))


class Call:
    """A pickle of it calls a function when it is read."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def test_files_that_are_none_are_refused_and_not_run(state, write, tmp_path):
    mark = tmp_path / "it_ran"
    with pytest.raises(ValueError, match=r"plain tensors, but reading it asks for .*mkdir"):
        read_released(write({**state, "a": Call(os.mkdir, str(mark))}))
    assert not mark.exists()
    path = write(state)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"plain tensors, but it is truncated or of another kind"):
        read_released(path)
    torch.save({"epoch": 1}, path)
    with pytest.raises(ValueError, match="with the tensors of prompt_learner, found none"):
        read_released(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.pth: expected a checkpoint released by the authors"):
        read_released(tmp_path / "gone.pth")
