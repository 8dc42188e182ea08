"""What open_clip says of backbones by their names."""

import open_clip
import pytest
import timm
import torch
from open_clip.pretrained import get_pretrained_cfg

from anomalib_zsad.clip.known_weights import is_trained_with_gelu
from anomalib_zsad.clip.layout import architecture_of
from anomalib_zsad.clip.named import CLIP_LOOK, Look, config_of, default_size, has_class_token, is_timm, look_of
from anomalib_zsad.clip.timm_vision import check_trunk
from tests.support.small_towers import TIMM, register

HALVES = Look((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True, scope="module")
def small_towers():
    register()


def needs_tag(backbone, tag):
    return pytest.mark.skipif(not get_pretrained_cfg(backbone, tag), reason="this open_clip does not have it")


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-L-14-336", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"])
def test_the_shapes_tell_what_open_clip_knows_by_name(name):
    config = config_of(name)
    with torch.device("meta"):
        told = architecture_of(open_clip.CLIP(**config).state_dict())
    told["vision_cfg"].pop("mlp_ratio", None)
    config["vision_cfg"].pop("mlp_ratio", None)
    assert told == config


def test_the_activation_is_no_part_of_the_architecture():
    assert config_of("ViT-B-32-quickgelu") == config_of("ViT-B-32")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("RN50", "ResNet"),
        ("coca_ViT-B-32", "custom_text"),
        ("ViT-M-16-alt", "ls_"),
        ("convnext_base", "timm_drop"),
        ("nllb-clip-base", "hf_model_name"),
    ],
)
def test_other_models_of_open_clip_are_refused_by_name(name, what):
    with pytest.raises(ValueError, match=rf"backbone '{name}' is not supported.*{what}"):
        config_of(name)
    assert not is_timm(name)


def test_blocks_with_the_norm_behind_them_are_refused():
    trunk = timm.create_model("eva02_enormous_patch14_clip_224", depth=1, embed_dim=32, num_heads=2)
    with pytest.raises(ValueError, match=r"'EVA02-E-14' is not supported.*pre-norm.*EvaBlockPostNorm"):
        check_trunk(trunk, "EVA02-E-14")


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"backbone 'ViT-L-14_336' .* did you mean ViT-L-14-336"):
        config_of("ViT-L-14_336")


def test_a_tower_that_this_timm_does_not_have_is_named(monkeypatch):
    monkeypatch.setattr(timm, "is_model", lambda name: False)
    with pytest.raises(ValueError, match=r"'EVA02-B-16' has the vision tower 'eva02_base.*', which timm .* install a"):
        default_size("EVA02-B-16")


@pytest.mark.parametrize(
    ("name", "size"), [("ViT-L-14-336", 518), ("ViT-B-16", 512), ("zsad-tiny", 168), (TIMM[0], 518)]
)
def test_images_have_the_size_of_the_papers_or_the_nearest(name, size):
    assert default_size(name) == size


def test_which_towers_have_a_class_token():
    assert [has_class_token(name) for name in ("ViT-B-16", *TIMM)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("backbone", "tag", "look"),
    [
        ("ViT-L-14-336", "openai", CLIP_LOOK),
        ("ViT-L-14", "laion2b_s32b_b82k", HALVES),
        ("ViT-B-16-SigLIP", "webli", HALVES),
        ("ViT-B-16-SigLIP", "/some/file.safetensors", HALVES),
        ("ViT-L-14", "/some/file.safetensors", CLIP_LOOK),
        ("no model of open_clip", "/some/file.safetensors", CLIP_LOOK),
        pytest.param(
            "PE-Core-L-14-336",
            "meta",
            HALVES._replace(interpolation="bilinear"),
            marks=needs_tag("PE-Core-L-14-336", "meta"),
        ),
    ],
)
def test_images_look_as_in_the_training_of_the_backbone(backbone, tag, look):
    assert look_of(backbone, tag) == look


@pytest.mark.parametrize(
    ("backbone", "tag", "gelu"),
    [
        ("ViT-L-14-336", "openai", False),
        ("ViT-L-14", "laion2b_s32b_b82k", True),
        ("ViT-L-14", "dfn2b", False),
        ("ViT-L-14-quickgelu", "metaclip_400m", False),
        ("ViT-L-14", "metaclip_400m", False),
        ("ViT-L-14", "somebody's", False),
        pytest.param("ViT-L-14", "dfn2b_s39b", True, marks=needs_tag("ViT-L-14", "dfn2b_s39b")),
        pytest.param("ViT-H-14", "metaclip_altogether", True, marks=needs_tag("ViT-H-14", "metaclip_altogether")),
    ],
)
def test_which_weights_were_trained_with_gelu(backbone, tag, gelu):
    assert is_trained_with_gelu(backbone, tag) == gelu
