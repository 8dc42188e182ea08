"""Loading a CLIP: one set of weights for all models of a process, and what identifies it."""

import hashlib
import logging
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.embedded import is_embedded
from anomalib_zsad.clip.layout import architecture_of, config_of, read_state_dict
from anomalib_zsad.clip.weights import resolve, sha256_of
from anomalib_zsad.functional.seeds import seeded

logger = logging.getLogger(__name__)

_SAMPLED = 4096
"""Values of a tensor that are enough to tell weights apart."""
UNTRAINED_SEED = 0
"""Seed of the weights of a backbone with `pretrained=None`, the same on every machine with the same torch."""

_shared: WeakValueDictionary[tuple[str, str | None], nn.Module] = WeakValueDictionary()


def load_shared(backbone: str, pretrained: str | Path | None) -> nn.Module:
    """Load the weights of a CLIP, once for all models of a process that use them at the same time.

    Args:
        backbone: As for `FrozenClip.load`.
        pretrained: As for `FrozenClip.load`.

    Returns:
        An `open_clip.CLIP` with an `identity`.
    """
    path = None if pretrained is None else resolve(backbone, pretrained)
    key = (backbone, None) if path is None else ("file", str(path.resolve()))
    if key not in _shared:
        _shared[key] = clip = _untrained(backbone) if path is None else _from_file(path)
        clip.identity = {  # type: ignore[assignment]  # a plain attribute of a module
            "backbone": backbone,  # a file tells its architecture itself: then this is only what was asked for
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


def _from_file(path: Path) -> nn.Module:
    state = read_state_dict(path)
    clip = _on_meta(architecture_of(state, path))
    clip.load_state_dict(state, strict=True, assign=True)
    return _without_buffers(clip)


def _untrained(backbone: str) -> nn.Module:
    import open_clip

    logger.warning("Backbone %s with pretrained=None: its weights are untrained, for tests and benchmarks.", backbone)
    with seeded(UNTRAINED_SEED):
        return _without_buffers(open_clip.CLIP(**config_of(backbone)))


def _on_meta(config: dict[str, Any]) -> nn.Module:
    import open_clip

    with torch.device("meta"):
        return open_clip.CLIP(**config)


def _without_buffers(clip: Any) -> nn.Module:
    clip.attn_mask = None  # the causal mask: scaled_dot_product_attention brings its own
    return clip.eval().requires_grad_(requires_grad=False)
