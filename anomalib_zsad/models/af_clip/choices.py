"""The settings that the paper of AF-CLIP leaves open."""

from dataclasses import dataclass

from anomalib_zsad import arguments as arg


@dataclass(frozen=True)
class AFChoices(arg.Choices):
    """Settings that the paper of AF-CLIP leaves open (arXiv 2507.19949); the defaults are those of its released code.

    Args:
        window_sigma: Standard deviation of the window weights in patches (eq. 6).
        heads: Attention heads of the adaptor.
        head_width: Width of each head.
        focal_gamma: Focusing exponent of the focal losses (eq. 11).
        betas: Adam's betas.

    Raises:
        ValueError: If a field is of another type or out of its range.
    """

    window_sigma: arg.PositiveSigma = 4.0
    heads: arg.Count = 8
    head_width: arg.Width = 64
    focal_gamma: arg.Exponent = 4.0
    betas: arg.Betas = (0.5, 0.999)
