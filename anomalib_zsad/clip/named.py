"""open_clip's configuration of a backbone by its name: architecture, activation, size and colours of images."""

import difflib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from anomalib_zsad.clip.embedded import DIGESTS, SMALL_SIZE, USUAL_SIZE
from anomalib_zsad.clip.known_weights import entry_of, tags_of
from anomalib_zsad.clip.timm_vision import check_trunk

HEAD_WIDTH = 64
"""Width of an attention head in CLIP, but for the widest vision towers."""

_OWN_ARCHITECTURES = Path(__file__).parent / "architectures"

# What a standard CLIP is made of. Any other entry in a configuration of open_clip changes the computation.
_TOP = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
_VISION = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}

# What one with a vision tower of timm is made of.
_TIMM_TOP = {"embed_dim", "vision_cfg", "text_cfg", "custom_text", "init_logit_bias"}
_TIMM_VISION = {"image_size", "timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj"}
_TIMM_TEXT = {
    *_TEXT,
    "act_kwargs",
    "hf_tokenizer_name",
    "no_causal_mask",
    "norm_kwargs",
    "pool_type",
    "proj_bias",
    "tokenizer_kwargs",
}
_TIMM_VALUES = {"timm_pool": {"token", "map"}, "timm_proj": {None, "none"}, "pool_type": {"argmax", "last"}}


class Look(NamedTuple):
    """How the images were normalised and resized in the training of a backbone.

    Args:
        mean: Of each colour, of floats in [0, 1].
        std: The standard deviation of each.
        interpolation: "bicubic" or "bilinear", antialiased.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"


CLIP_LOOK = Look((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Of OpenAI's CLIP and most others."""


def config_of(backbone: str) -> dict[str, Any]:
    """Look up the architecture of a backbone by its open_clip name.

    Args:
        backbone: A model name of open_clip. The activation that the name may imply is not part of the answer.

    Returns:
        The configuration of a CLIP vision transformer, or with `timm_model_name` in its `vision_cfg` that of a CLIP
        with a tower of timm, as `open_clip.CLIP` and `open_clip.CustomTextCLIP` take it.

    Raises:
        ValueError: If open_clip has no such model, or it is of another kind.
    """
    import open_clip

    _add_own()
    known = open_clip.list_models()
    if backbone not in known:
        close = difflib.get_close_matches(backbone, known, n=4)
        hint = f"did you mean {', '.join(close)}?" if close else "open_clip.list_models() lists those that exist"
        installed = f"open_clip_torch {version('open_clip_torch')} is installed"
        msg = f"backbone {backbone!r} is not a model of open_clip; {hint} ({installed}; a later one may have more)"
        raise ValueError(msg)
    config = open_clip.get_model_config(backbone)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision:
        _check_timm(backbone, config)
        return {name: value for name, value in config.items() if name != "custom_text"}
    foreign = [*sorted(config.keys() - _TOP), *sorted(vision.keys() - _VISION), *sorted(text.keys() - _TEXT)]
    if foreign or not isinstance(vision["layers"], int):
        _refuse(backbone, foreign[0] if foreign else "a ResNet")
    return {"embed_dim": config["embed_dim"], "vision_cfg": {"head_width": HEAD_WIDTH, **vision}, "text_cfg": text}


def is_timm(backbone: str) -> bool:
    """Whether the vision tower of a backbone is one of timm; False for unknown names, which may stand beside a file."""
    config = _known(backbone)
    return config is not None and "timm_model_name" in config["vision_cfg"]


@lru_cache
def skeleton(backbone: str) -> nn.Module:
    """Build a backbone with a tower of timm without weights, on the meta device; not to be changed.

    Raises:
        ValueError: If it is of another kind, or this timm does not have the tower.
    """
    with torch.device("meta"):
        return build(backbone)


def build(backbone: str) -> nn.Module:
    """Build a backbone with random weights.

    Raises:
        ValueError: If it is of another kind, or this timm does not have the tower.
    """
    import open_clip
    import timm

    config = config_of(backbone)
    name = config["vision_cfg"].get("timm_model_name")
    if name is None:
        return open_clip.CLIP(**config)
    if not timm.is_model(name):
        msg = (
            f"backbone {backbone!r} has the vision tower {name!r}, which timm {version('timm')} does not have: "
            "install a later one (pip install -U timm)"
        )
        raise ValueError(msg)
    clip = open_clip.CustomTextCLIP(**config)
    check_trunk(clip.visual.trunk, backbone)
    return clip


def has_class_token(backbone: str) -> bool:
    """Whether the vision tower of a backbone has a class token."""
    return not is_timm(backbone) or bool(_trunk(backbone).num_prefix_tokens)


@lru_cache
def default_size(backbone: str) -> int:
    """Return the default height and width of images in pixels: the multiple of the patch size nearest to 518."""
    if backbone in DIGESTS:
        return SMALL_SIZE
    if is_timm(backbone):
        patch = _trunk(backbone).patch_embed.patch_size[0]
    else:
        patch = (_known(backbone) or {"vision_cfg": {"patch_size": 1}})["vision_cfg"]["patch_size"]
    return round(USUAL_SIZE / patch) * patch


def look_of(backbone: str, tag: str | Path | None) -> Look:
    """Return how images were normalised and resized in the training of a backbone.

    Args:
        backbone: A model name of open_clip.
        tag: A tag. What open_clip does not know, such as a file, has the look of all tags of the backbone, where they
            have the same and its tower is one of timm, else that of CLIP.
    """
    entry = entry_of(backbone, str(tag))
    if entry is None:
        looks = {look_of(backbone, each) for each in tags_of(backbone)} if is_timm(backbone) else set()
        return looks.pop() if len(looks) == 1 else CLIP_LOOK
    mean, std = (tuple(entry.get(name) or usual) for name, usual in (("mean", CLIP_LOOK.mean), ("std", CLIP_LOOK.std)))
    return Look(mean, std, entry.get("interpolation") or CLIP_LOOK.interpolation)


@lru_cache
def _add_own() -> None:
    import open_clip

    open_clip.add_model_config(_OWN_ARCHITECTURES)  # it reads all of its own anew


def _known(backbone: str) -> dict[str, Any] | None:
    try:
        return config_of(backbone)
    except ValueError:
        return None


def _trunk(backbone: str) -> Any:
    return cast("Any", skeleton(backbone)).visual.trunk


def _check_timm(backbone: str, config: dict[str, Any]) -> None:
    vision, text = config["vision_cfg"], config["text_cfg"]
    foreign = [
        *sorted(config.keys() - _TIMM_TOP),
        *sorted(vision.keys() - _TIMM_VISION),
        *sorted(text.keys() - _TIMM_TEXT),
        *(f"{name}={value!r}" for name, value in {**vision, **text}.items() if value not in _values(name, value)),
    ]
    if foreign or text.get("no_causal_mask", False) != (text.get("pool_type") == "last"):
        _refuse(backbone, foreign[0] if foreign else "another way of reading texts")


def _values(name: str, value: Any) -> Any:
    return _TIMM_VALUES.get(name, (value,))


def _refuse(backbone: str, what: str) -> None:
    msg = (
        f"backbone {backbone!r} is not supported: only plain CLIP vision transformers are, and those of timm with a "
        f"class token or attention pooling, and it has {what}"
    )
    raise ValueError(msg)
