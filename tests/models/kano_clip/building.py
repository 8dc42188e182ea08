"""Small models of KAnoCLIP whose parameters are off their start, so that nothing hides behind zeros and ones."""

from pathlib import Path
from typing import Any

import torch

from anomalib_zsad.models.kano_clip import KAnoClip
from tests.support.choices import with_choices
from tests.support.parameters import with_parameters_of

_SIZES = {"bica_dim": 32, "bica_heads": 4, "deform_kernel": 3, "deform_stride": 2, "bottleneck": 16}
SMALL: dict[str, Any] = {"choices": _SIZES}
"""Sizes for a grid of 4 x 4 patches: with the defaults there would be one sampling point."""


def build(clip: Path, moved: float = 0.1, **arguments: Any) -> KAnoClip:
    """A model of 56 px; `moved` is the deviation of what is added to its parameters."""
    model = KAnoClip(pretrained=clip, image_size=56, **with_choices(KAnoClip, {**_SIZES, **arguments}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter += moved * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def build_like(base: KAnoClip, clip: Path, **arguments: Any) -> KAnoClip:
    """Build another model with all of the base's parameters that fit, so that arguments alone make the difference."""
    return with_parameters_of(base, build(clip, **arguments))
