"""Image scores and anomaly maps from the probabilities of images and patches."""

from dataclasses import dataclass

import torch
from anomalib.data import InferenceBatch
from torch import Tensor

from anomalib_zsad.functional.scoring import smooth_upsample


@dataclass(frozen=True)
class ScoreHead:
    """Upsamples and blurs anomaly maps, and combines the maximum of a map with the probability of its image.

    Args:
        sigma: Standard deviation in pixels of the blur; 0 for none.
        peak_weight: Weight of the map's maximum; the weighted sum is divided by 1 + `peak_weight`, so that scores stay
            in [0, 1].
        smooth_peak: Whether the maximum is taken from the blurred map.
    """

    sigma: float
    peak_weight: float = 0.0
    smooth_peak: bool = True

    def __call__(
        self,
        image: Tensor,  # (B,) in [0, 1]
        maps: Tensor,  # (B, h, w) in [0, 1], of the patches or of the size of the image
        size: tuple[int, int],
    ) -> InferenceBatch:  # pred_score (B,), anomaly_map (B, 1, H, W)
        """Score images."""
        smooth = self.smooth(maps, size)
        return InferenceBatch(
            pred_score=self.join(image, smooth if self.smooth_peak else maps), anomaly_map=smooth[:, None]
        )

    def smooth(
        self,
        maps: Tensor,  # (B, h, w) in [0, 1]
        size: tuple[int, int],
    ) -> Tensor:  # (B, H, W) in [0, 1]
        """Upsample maps to the size of the image, and blur them."""
        if not self.sigma and maps.shape[-2:] == size:
            return maps
        with torch.autocast(maps.device.type, enabled=False):
            # Rounding of the two matrix products must not leave [0, 1].
            return smooth_upsample(maps, size, self.sigma).clamp(0, 1)

    def join(
        self,
        image: Tensor,  # (B,) in [0, 1]
        maps: Tensor,  # (B, h, w) in [0, 1]
    ) -> Tensor:  # (B,) in [0, 1]
        """Combine the image's probability with the map's maximum."""
        if not self.peak_weight:
            return image
        return (image + self.peak_weight * maps.amax(dim=(-2, -1))) / (1 + self.peak_weight)
