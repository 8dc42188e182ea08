"""A WMoE-CLIP whose parameters and running statistics are away from their initial values, which hide mistakes."""

import torch

from anomalib_zsad.models.wmoe_clip import WMoEClip
from tests.support.choices import with_choices
from tests.support.parameters import with_parameters_of
from tests.support.small_clip import IMAGE_SIZE


def build(clip, **arguments):
    model = WMoEClip(pretrained=clip, image_size=IMAGE_SIZE, **with_choices(WMoEClip, arguments))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for buffer in (each for name, each in model.named_buffers() if "running" in name):
            buffer += 0.1 * torch.rand(buffer.shape, generator=generator)
    return model.eval()


def build_like(base, clip, **arguments):
    """Build another model with all of the base's parameters that fit, so that arguments alone make the difference."""
    return with_parameters_of(base, build(clip, **arguments))


def noise(batch=3, seed=0):
    return torch.randn(batch, 2, 64, generator=torch.Generator().manual_seed(seed))
