"""How WMoE-CLIP is trained: image and map losses, and those of the variational autoencoder."""

import torch
from torch import Tensor, nn

from anomalib_zsad.functional.losses import ScoreReduction, dice_loss, score_loss
from anomalib_zsad.models.wmoe_clip.experts import load_balance
from anomalib_zsad.models.wmoe_clip.sampler import Sample
from anomalib_zsad.models.wmoe_clip.torch_model import Logits, MapReduction

MARGIN = 1e-5
"""How far the focal loss keeps probabilities from 0 and 1."""


class WMoEClipLoss(nn.Module):
    """The losses of WMoE-CLIP, eq. 2-3 and 9-11.

    Args:
        global_weight: Weight of the image's cross-entropy (eq. 9).
        local_weight: Weight of the map's losses (eq. 10).
        kl_weight: Weight of the divergence of what is sampled from a standard normal distribution (eq. 2).
        rec_weight: Weight of the reconstruction of the class token (eq. 3).
        balance_weight: Weight of the experts' load balance; not in the paper.
        focal_gamma: Focusing exponent of the focal losses.
        dice_smooth: Added to numerator and denominator of the dice losses.
        score_reduction: What the cross-entropy sees of the sum of the class token's probability and the map's maximum
            (see `score_loss`).
        map_reduction: As the model's.
    """

    def __init__(
        self,
        global_weight: float = 1.0,
        local_weight: float = 1.0,
        kl_weight: float = 1.0,
        rec_weight: float = 1.0,
        balance_weight: float = 0.0,
        focal_gamma: float = 2.0,
        dice_smooth: float = 1.0,
        score_reduction: ScoreReduction = "half",
        map_reduction: MapReduction = "mean",
    ) -> None:
        super().__init__()
        self.weights = {
            "loss_global": global_weight,
            "loss_focal": local_weight,
            "loss_dice": local_weight,
            "loss_kl": kl_weight,
            "loss_rec": rec_weight,
            "loss_balance": balance_weight,
        }
        self.focal_gamma = focal_gamma
        self.dice_smooth = dice_smooth
        self.score_reduction = score_reduction
        self.map_reduction = map_reduction

    def forward(
        self,
        logits: Logits,
        maps: Tensor,  # (B, L, H, W) probabilities, one map a layer
        label: Tensor,  # (B,) true where anomalous
        mask: Tensor,  # (B, H, W) nonzero where anomalous
    ) -> dict[str, Tensor]:
        """Compute every term and their weighted sum, `loss`; terms of what is switched off are left out."""
        target = (mask > 0)[:, None].expand_as(maps)
        n_layers = maps.shape[1]
        text, peak = logits.image.softmax(-1)[:, 1], maps.mean(1).amax(dim=(-2, -1))
        weight = n_layers if self.map_reduction == "sum" else 1
        with torch.autocast(maps.device.type, enabled=False):
            terms = {
                "loss_global": score_loss(text, peak, label.float(), self.score_reduction, weight),
                # Means over all layers: their sum is L times as much.
                "loss_focal": n_layers * focal_loss(maps, target, self.focal_gamma),
                "loss_dice": n_layers * dice_loss(maps.flatten(0, 1), target.flatten(0, 1), self.dice_smooth),
            }
            if logits.sample is not None:
                terms["loss_kl"] = divergence(logits.sample).sum(-1).mean()
                terms["loss_rec"] = reconstruction(logits.sample).mean()
            if logits.routed is not None and self.weights["loss_balance"]:
                terms["loss_balance"] = load_balance(logits.routed)
            total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return {"loss": total, **terms}


def divergence(sample: Sample) -> Tensor:  # (B, D)
    """Measure how far what is sampled is from a standard normal distribution, for each dimension, eq. 2."""
    return -0.5 * (1 + sample.log_variance - sample.mean.square() - sample.log_variance.exp())


def reconstruction(sample: Sample) -> Tensor:  # (B, m)
    """Measure how far samples are from the class token, squared, eq. 3."""
    return (sample.decoded - sample.token[:, None]).square().sum(-1)


def focal_loss(
    maps: Tensor,  # any shape, probabilities
    target: Tensor,  # the same shape, true where anomalous
    gamma: float = 2.0,
) -> Tensor:
    """Mean focal loss of the probability of the true state, without class weights."""
    likelihood = torch.where(target, maps, 1 - maps).clamp(MARGIN, 1 - MARGIN)
    return ((1 - likelihood) ** gamma * -likelihood.log()).mean()
