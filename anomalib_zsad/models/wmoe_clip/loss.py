"""The losses of WMoE-CLIP: of images and maps, and of the variational autoencoder."""

import torch
from torch import Tensor

from anomalib_zsad.functional.losses import clamped_focal_loss, dice_loss, score_loss
from anomalib_zsad.functional.scoring import probability
from anomalib_zsad.models.parts.compiling import Compilable, whole_graph
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.experts import load_balance
from anomalib_zsad.models.wmoe_clip.sampler import Sample
from anomalib_zsad.models.wmoe_clip.torch_model import Logits


class WMoEClipLoss(Compilable):
    """The losses of WMoE-CLIP, eq. 2-3 and 9-11.

    Args:
        choices: Weight of the experts' load balance, exponent of the focal losses, and the reduction of the class
            token's probability and the map's maximum for the cross-entropy.
        global_weight: Weight of the image's cross-entropy (eq. 9).
        local_weight: Weight of the map's losses (eq. 10).
        kl_weight: Weight of the KL divergence of the latent distribution from a standard normal one (eq. 2).
        rec_weight: Weight of the reconstruction of the class token (eq. 3).
    """

    def __init__(
        self,
        choices: WMoEChoices = WMoEChoices(),
        global_weight: float = 1.0,
        local_weight: float = 1.0,
        kl_weight: float = 1.0,
        rec_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = {
            "loss_global": global_weight,
            "loss_focal": local_weight,
            "loss_dice": local_weight,
            "loss_kl": kl_weight,
            "loss_rec": rec_weight,
            "loss_balance": choices.balance_weight,
        }
        self.choices = choices

    @whole_graph(varies=True)
    def forward(
        self,
        logits: Logits,
        maps: Tensor,  # (B, L, H, W) probabilities, one map a layer
        label: Tensor,  # (B,) true where anomalous
        mask: Tensor,  # (B, H, W) nonzero where anomalous
    ) -> dict[str, Tensor]:
        """Compute every term and their weighted sum, `loss`; terms of disabled parts are left out."""
        target = (mask > 0)[:, None].expand_as(maps)
        n_layers = maps.shape[1]
        text, peak = probability(logits.image), maps.mean(1).amax(dim=(-2, -1))
        weight = n_layers if self.choices.map_reduction == "sum" else 1
        with torch.autocast(maps.device.type, enabled=False):
            terms = {
                "loss_global": score_loss(text, peak, label.float(), self.choices.score_reduction, weight),
                # Means over all layers: their sum is L times as much.
                "loss_focal": n_layers * clamped_focal_loss(maps, target, self.choices.focal_gamma),
                "loss_dice": n_layers * dice_loss(maps.flatten(0, 1), target.flatten(0, 1)),
            }
            if logits.sample is not None:
                terms["loss_kl"] = divergence(logits.sample).sum(-1).mean()
                terms["loss_rec"] = reconstruction(logits.sample).mean()
            if logits.routed is not None and self.weights["loss_balance"]:
                terms["loss_balance"] = load_balance(logits.routed)
            total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return {"loss": total, **terms}


def divergence(sample: Sample) -> Tensor:  # (B, D)
    """KL divergence of the latent distribution from a standard normal one, for each dimension, eq. 2."""
    return -0.5 * (1 + sample.log_variance - sample.mean.square() - sample.log_variance.exp())


def reconstruction(sample: Sample) -> Tensor:  # (B, m)
    """Squared distances of decoded samples from the class token, eq. 3."""
    return (sample.decoded - sample.token[:, None]).square().sum(-1)
