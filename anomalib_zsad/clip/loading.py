"""Loading a CLIP: one set of weights for all models of a process, and what identifies it."""

import hashlib
import logging
from copy import deepcopy
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.embedded import is_embedded
from anomalib_zsad.clip.layout import clip_of, faults_of, read_state_dict
from anomalib_zsad.clip.named import build, config_of, skeleton
from anomalib_zsad.clip.weights import names_a_file, resolve, sha256_of
from anomalib_zsad.functional.seeds import seeded

logger = logging.getLogger(__name__)

_SAMPLED = 4096
"""Values of a tensor that are enough to distinguish weights."""
UNTRAINED_SEED = 0
"""Seed of the weights of a backbone with `pretrained=None`, the same on every machine with the same torch."""

_shared: WeakValueDictionary[tuple[str, str | None], nn.Module] = WeakValueDictionary()


def load_shared(backbone: str, pretrained: str | Path | None) -> nn.Module:
    """Load the weights of a CLIP, once for all models of a process that use them at the same time.

    Args:
        backbone: As for `FrozenClip.load`.
        pretrained: As for `FrozenClip.load`.

    Returns:
        An `open_clip.CLIP`, or an `open_clip.CustomTextCLIP` where the vision tower is one of timm, with an `identity`.
    """
    timm_tower = _timm_tower(backbone, pretrained)
    path = None if pretrained is None else resolve(backbone, pretrained)
    key = (backbone if path is None or timm_tower else "file", None if path is None else str(path.resolve()))
    if key not in _shared:
        _shared[key] = clip = _loaded(backbone, path, timm_tower)
        clip.identity = {  # type: ignore[assignment]  # a plain attribute of a module
            "backbone": backbone,  # a file determines its architecture: then this is only what was given
            "pretrained": _source(path, pretrained),
            "sha256": None if path is None else sha256_of(path),
            "fingerprint": fingerprint(clip.state_dict()),
        }
        return clip
    return _shared[key]


def fingerprint(
    state: dict[str, Tensor],
) -> str:
    """Identify weights by the SHA-256 of a sample of every tensor in float32.

    The digest of a file differs between formats of the same weights; this one does not, and costs next to nothing.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        step = tensor.numel() // _SAMPLED | 1  # odd, so that it does not keep to a few columns of a matrix
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().flatten()[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _source(path: Path | None, pretrained: str | Path | None) -> str | None:
    if path is None:
        return None
    return "embedded" if is_embedded(path) else str(pretrained)


def _timm_tower(backbone: str, pretrained: str | Path | None) -> str | None:
    """Return the name of a backbone's tower in timm, None for others; check it before its weights are fetched."""
    try:
        config = config_of(backbone)
    except ValueError:
        if pretrained is None or not names_a_file(pretrained):
            raise
        return None  # a file determines its architecture
    name = config["vision_cfg"].get("timm_model_name")
    if name is not None:
        skeleton(backbone)
    return name


def _loaded(backbone: str, path: Path | None, timm_tower: str | None) -> nn.Module:
    if path is None:
        clip = _untrained(backbone)
    elif timm_tower is None:
        state = read_state_dict(path)
        clip = clip_of(state, path)
        clip.load_state_dict(state, strict=True, assign=True)
    else:
        clip = _with_timm_tower(backbone, path)
    if timm_tower is not None:
        _renew_buffers(clip, timm_tower)
    return _without_masks(clip)


def _with_timm_tower(backbone: str, path: Path) -> nn.Module:
    clip = deepcopy(skeleton(backbone))
    names = {name.removeprefix("text."): name for name in clip.state_dict()}
    state = {names.get(name, name): value for name, value in read_state_dict(path).items()}
    if fault := faults_of(state, clip):
        msg = f"{path}: expected the weights of {backbone}; {fault}"
        raise ValueError(msg)
    clip.load_state_dict(state, strict=True, assign=True)
    return clip


def _untrained(backbone: str) -> nn.Module:
    logger.warning("Backbone %s with pretrained=None: its weights are untrained, for tests and benchmarks.", backbone)
    with seeded(UNTRAINED_SEED):
        return build(backbone)


def _renew_buffers(clip: Any, timm_tower: str) -> None:
    """Replace the buffers that no file holds: rotary embeddings by those for images of any size, and zero biases."""
    import timm

    trunk = clip.visual.trunk
    if getattr(trunk, "rope", None) is not None:
        trunk.rope = timm.create_model(timm_tower, depth=1, num_classes=0, dynamic_img_size=True).rope
    for block in trunk.blocks:
        if getattr(block.attn, "k_bias", None) is not None:
            block.attn.k_bias = torch.zeros(block.attn.k_bias.shape)


def _without_masks(clip: Any) -> nn.Module:
    text = clip.text if hasattr(clip, "text") else clip
    text.attn_mask = None  # the causal one: scaled_dot_product_attention brings its own
    return clip.eval().requires_grad_(requires_grad=False)
