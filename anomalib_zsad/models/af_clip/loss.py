"""The losses of AF-CLIP: focal, L1 and patch alignment."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.arguments import checked
from anomalib_zsad.functional.losses import binary_focal_loss, masked_alignment
from anomalib_zsad.models.af_clip.torch_model import Logits
from anomalib_zsad.models.parts.compiling import Compilable, whole_graph

Variant = Literal["released", "paper"]


class AFClipLoss(Compilable):
    """The losses of AF-CLIP, eq. 11 and 13-15.

    Args:
        gamma: Focusing exponent of the focal losses.
        lambda1: Weight of the map's losses.
        lambda2: Weight of the patch alignment.
        variant: "released" has the gradients of the published training, in which the map's focal loss has about twice
            the gradient for normal patches, see `_overwritten_mask`. "paper" has the gradient of eq. 13. The values of
            the losses are the same.
    """

    @checked
    def __init__(
        self,
        gamma: float = 4.0,
        lambda1: float = 1.0,
        lambda2: float = 1.0,
        variant: Variant = "released",
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.variant = variant

    @whole_graph(varies=True)
    def forward(
        self,
        logits: Logits,
        label: Tensor,  # (B,) true where anomalous
        mask: Tensor,  # (B, H, W) nonzero where anomalous; floats are degrees from 0 to 1
    ) -> dict[str, Tensor]:
        """Compute every term and their weighted sum, `loss`."""
        target = patch_targets(mask, logits.patches.shape[1:3])
        log_odds = logits.patches[..., 1] - logits.patches[..., 0]
        terms = {
            "loss_image": binary_focal_loss(logits.image[:, 1] - logits.image[:, 0], label.float(), self.gamma),
            "loss_map_focal": self._map_focal(log_odds, target),
            "loss_map_l1": (log_odds.sigmoid() - target).abs().mean(),
            "loss_alignment": _alignment(logits, target.flatten(1)),
        }
        in_map = terms["loss_map_focal"] + terms["loss_map_l1"]
        total = terms["loss_image"] + self.lambda1 * in_map + self.lambda2 * terms["loss_alignment"]
        return {"loss": total, **terms}

    def _map_focal(
        self,
        log_odds: Tensor,  # (B, gh, gw)
        target: Tensor,  # (B, gh, gw) in {0, 0.5, 1}
    ) -> Tensor:
        loss = binary_focal_loss(log_odds, target, self.gamma)
        return loss + _overwritten_mask(log_odds, target, self.gamma) if self.variant == "released" else loss


def patch_targets(
    mask: Tensor,  # (B, H, W) nonzero where anomalous; floats are degrees from 0 to 1
    grid: torch.Size | tuple[int, int],
) -> Tensor:  # (B, gh, gw) in {0, 0.5, 1}
    """Bring masks to the grid, bilinear: 1 above one half, 0 below, and 0.5 at exactly one half."""
    share = mask if mask.is_floating_point() else (mask != 0).float()
    share = F.interpolate(share[:, None], size=tuple(grid), mode="bilinear", align_corners=False)[:, 0]
    return torch.where(share == 0.5, share, (share > 0.5).to(share))


def _overwritten_mask(log_odds: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Return 0 with the gradient that the released training adds to the focal loss of the map.

    There the patch alignment writes -1 for normal patches into the tensor that the focal loss has saved for its
    backward pass. With t = -1 the cross-entropy's gradient (p - t) is 1 too large, and that of p_t is doubled.
    """
    focus = (target == 0) * log_odds.sigmoid() ** gamma
    cross_entropy = F.softplus(log_odds)
    extra = (focus.detach() * log_odds + focus * cross_entropy.detach()).mean()
    return extra - extra.detach()


def _alignment(
    logits: Logits,
    target: Tensor,  # (B, N) in {0, 0.5, 1}
) -> Tensor:
    # One entry for each token; the class token comes first and is neither normal nor anomalous, as are ties.
    anomalous, normal = (F.pad((target == kind).to(target), (1, 0)) for kind in (1, 0))
    anomalous_sum, normal_sum = (torch.cat([t.unit_sums(kind) for t in logits.tokens]) for kind in (anomalous, normal))
    return masked_alignment(normal_sum, anomalous_sum, normal.sum(1), anomalous.sum(1))
