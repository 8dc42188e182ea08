"""What the paper of AnomalyCLIP leaves open, and what its published results were made with."""

from dataclasses import dataclass

from anomalib_zsad import arguments as arg


@dataclass(frozen=True)
class AnomalyChoices(arg.Choices):
    """What the paper of AnomalyCLIP leaves open (arXiv 2310.18961); the defaults are those of its released code.

    Args:
        vv_start_layer: The first block with V-V attention. None: the last of the first quarter (6 at ViT-L).
        temperature: Divides every cosine (tau of eq. 1).
        focal_gamma: Focusing exponent of the focal loss.
        betas: Adam's betas.

    Raises:
        ValueError: If a field is of another type or out of its range.
    """

    vv_start_layer: arg.Count | None = None
    temperature: arg.Temperature = 0.07
    focal_gamma: arg.Exponent = 2.0
    betas: arg.Betas = (0.5, 0.999)
