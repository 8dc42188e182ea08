"""How AF-CLIP is trained: focal, L1 and patch alignment losses."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_zsad.functional.losses import binary_focal_loss, masked_alignment
from anomalib_zsad.models.af_clip.torch_model import Logits


class AFClipLoss(nn.Module):
    """The losses of AF-CLIP, eq. 11 and 13-15.

    Args:
        gamma: Focusing exponent of the focal losses.
        lambda1: Weight of the map's losses.
        lambda2: Weight of the patch alignment.
    """

    def __init__(self, gamma: float = 4.0, lambda1: float = 1.0, lambda2: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.lambda1 = lambda1
        self.lambda2 = lambda2

    def forward(
        self,
        logits: Logits,
        label: Tensor,  # (B,) true where anomalous
        mask: Tensor,  # (B, H, W) nonzero where anomalous
    ) -> dict[str, Tensor]:
        """Compute every term and their weighted sum, `loss`."""
        target = _at_map_resolution(mask, logits.patches.shape[1:3])
        log_odds = logits.patches[..., 1] - logits.patches[..., 0]
        terms = {
            "loss_image": binary_focal_loss(logits.image[:, 1] - logits.image[:, 0], label.float(), self.gamma),
            "loss_map_focal": binary_focal_loss(log_odds, target, self.gamma),
            "loss_map_l1": (log_odds.sigmoid() - target).abs().mean(),
            "loss_alignment": _alignment(logits, target.flatten(1)),
        }
        in_map = terms["loss_map_focal"] + terms["loss_map_l1"]
        total = terms["loss_image"] + self.lambda1 * in_map + self.lambda2 * terms["loss_alignment"]
        return {"loss": total, **terms}


def _at_map_resolution(
    mask: Tensor,  # (B, H, W)
    grid: torch.Size,
) -> Tensor:  # (B, gh, gw) in {0, 1}
    small = F.interpolate((mask > 0).float()[:, None], size=grid, mode="bilinear", align_corners=False)
    return (small[:, 0] > 0.5).float()


def _alignment(
    logits: Logits,
    target: Tensor,  # (B, N) in {0, 1}
) -> Tensor:
    # One entry a token; the class token, which stands first, is neither normal nor anomalous here.
    anomalous, normal = (F.pad(kind, (1, 0)) for kind in (target, 1 - target))
    anomalous_sum, normal_sum = (torch.cat([t.unit_sums(kind) for t in logits.tokens]) for kind in (anomalous, normal))
    return masked_alignment(normal_sum, anomalous_sum, normal.sum(1), anomalous.sum(1))
