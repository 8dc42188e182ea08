"""How AnomalyCLIP is trained: the glocal loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.functional.losses import dice_loss, smoothed_focal_loss
from anomalib_zsad.models.parts.compiling import Compilable, whole_graph


class AnomalyClipLoss(Compilable):
    """Cross-entropy of images and, `lambda_local` times, focal and dice losses of the maps of all layers, eq. 2.

    Args:
        gamma: Focusing exponent of the focal loss.
        lambda_local: Weight of the maps' losses (lambda).
    """

    def __init__(self, gamma: float = 2.0, lambda_local: float = 4.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.lambda_local = lambda_local

    @whole_graph(varies=True)
    def forward(
        self,
        image: Tensor,  # (B, S) logits
        maps: Tensor,  # (L, B, H, W) probabilities
        label: Tensor,  # (B,) true where anomalous
        mask: Tensor,  # (B, H, W) nonzero where anomalous; of floats, how anomalous from 0 to 1
    ) -> dict[str, Tensor]:
        """Compute every term and their weighted sum, `loss`."""
        target = (mask > 0.5 if mask.is_floating_point() else mask != 0).float()
        names = ("loss_focal", "loss_dice_anomalous", "loss_dice_normal")
        local = torch.stack([self._local(each, target) for each in maps]).sum(0)
        terms = {"loss_image": F.cross_entropy(image, label.long()), **dict(zip(names, local, strict=True))}
        return {"loss": terms["loss_image"] + self.lambda_local * local.sum(), **terms}

    def _local(
        self,
        abnormal: Tensor,  # (B, H, W) in [0, 1]
        target: Tensor,  # (B, H, W) in {0, 1}
    ) -> Tensor:  # (3,), the terms of L_local
        dice = dice_loss(abnormal, target), dice_loss(1 - abnormal, 1 - target)
        return torch.stack([smoothed_focal_loss(abnormal, target, self.gamma), *dice])
