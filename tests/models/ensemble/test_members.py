from pathlib import Path

import pytest
import torch
from anomalib.models import Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from jsonargparse import ArgumentParser
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from anomalib_zsad.models import AFClip, Ensemble
from anomalib_zsad.models.ensemble.members import as_member, describe, is_untrained
from tests.models.ensemble.brightness import Brightness
from tests.support.small_clip import IMAGE_SIZE


def test_a_model_is_left_as_it_was_and_shares_its_weights():
    model = Padim(layers=["layer1"], pre_trained=False, n_features=4).train()
    member = as_member(model)
    assert member.model is model.model
    assert member.post_processor is None
    assert None not in (model.post_processor, model.evaluator, model.visualizer)
    assert model.training


def test_a_checkpoint_of_this_package_says_what_it_is_of(af_clip, small_clip):
    member = as_member(af_clip, small_clip)
    assert isinstance(member, AFClip)
    assert member.trained_on == ["VisA/candle"]
    assert (
        member.model.encoder.clip.clip is AFClip(pretrained=small_clip, image_size=IMAGE_SIZE).model.encoder.clip.clip
    )


def test_one_of_anomalib_does_not(padim, tmp_path):
    with pytest.raises(ValueError, match=r"model\.ckpt: expected a checkpoint of this package.*Padim\.load_from"):
        as_member(padim)
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt: expected a checkpoint, found no such file"):
        as_member(tmp_path / "gone.ckpt")


def test_a_description_is_plain_and_builds_the_same(small_clip, tmp_path):
    member = as_member(AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, scales=(1, 3), choices={"heads": 2}))
    about = describe(member)
    torch.save({**about, "hyper_parameters": {k: str(v) for k, v in about["hyper_parameters"].items()}}, tmp_path / "a")
    assert torch.load(tmp_path / "a", weights_only=True)["model"] == "AFClip"
    again = as_member(about, small_clip)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in member.state_dict().items()}
    assert describe(as_member(Patchcore(layers=["layer1"], backbone="resnet18", pre_trained=False)))[
        "hyper_parameters"
    ]["precision"] == ("float32")


def test_a_file_of_weights_is_not_looked_for_again(af_clip, small_clip, tmp_path):
    path = tmp_path / "weights.safetensors"
    AFClip.load_from_checkpoint(af_clip, pretrained=small_clip).save_weights(path)
    same = {"pretrained": small_clip, "image_size": IMAGE_SIZE, "feature_layers": [4], "scales": [1]}
    about = describe(as_member(AFClip(**same, weights=path)))
    path.unlink()
    assert isinstance(as_member(about, small_clip), AFClip)


def test_a_file_cannot_have_anything_imported():
    with pytest.raises(ValueError, match=r"expected a member of anomalib, of this package.* got one of Popen"):
        as_member({"model": "Popen", "hyper_parameters": {"args": "true"}})


def test_a_member_that_crops_is_refused():
    crops = PreProcessor(Compose([Resize((16, 16)), CenterCrop(8)]))
    with pytest.raises(ValueError, match="expected members that look at whole images, got a Brightness"):
        as_member(Brightness(pre_processor=crops))


def test_what_is_untrained_is_known_where_it_can_be(af_clip, padim, small_clip):
    assert is_untrained(as_member(AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)))
    assert is_untrained(as_member(Padim(layers=["layer1"], pre_trained=False, n_features=4)))
    assert not is_untrained(as_member(af_clip, small_clip))
    assert not is_untrained(as_member(Padim.load_from_checkpoint(padim)))
    assert not is_untrained(as_member(Brightness()))


def test_a_configuration_names_members_in_three_ways(af_clip: Path, padim: Path, small_clip: Path):
    weighty = {"class_path": "anomalib_zsad.AFClip", "init_args": {"pretrained": str(small_clip), "image_size": 42}}
    theirs = {"class_path": "anomalib.models.Padim.load_from_checkpoint", "init_args": {"checkpoint_path": str(padim)}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=Ensemble)
    options = {"models": [str(af_clip), theirs, weighty], "weights": [1, 2, 0.5], "pretrained": str(small_clip)}
    wanted = {"class_path": "anomalib_zsad.Ensemble", "init_args": options}
    model = parser.instantiate_classes(parser.parse_object({"model": wanted})).model
    assert [type(each).__name__ for each in model.model.members] == ["AFClip", "Padim", "AFClip"]
    assert model.model.map_size == (64, 56)
    assert model.model.members[1].model.gaussian.mean.numel() > 0
    assert model.model.weights == [1, 2, 0.5]
