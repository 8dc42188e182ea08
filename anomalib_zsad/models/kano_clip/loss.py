"""The losses of KAnoCLIP: knowledge-driven, global and local."""

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.functional.losses import binary_focal_loss, dice_loss, score_loss
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.parts.compiling import Compilable, whole_graph


class KAnoClipLoss(Compilable):
    """The losses of KAnoCLIP, eq. 2 and 13-15.

    The focal loss is computed from log-odds. Probabilities of the sum of four stages round to 0 or 1, and a loss with
    clamped probabilities has no gradient for these pixels: a map that is normal everywhere would stay so.

    Args:
        choices: Exponent of the focal loss, margin of the knowledge-driven one, and the reduction of both parts of the
            image score for the cross-entropy.
        lambda_kd: Weight of the knowledge-driven loss (alpha of eq. 13).
        lambda_global: Weight of the image's cross-entropy (beta).
        lambda_local: Weight of the map's losses (gamma).
    """

    def __init__(
        self,
        choices: KAnoChoices = KAnoChoices(),
        lambda_kd: float = 1.0,
        lambda_global: float = 1.0,
        lambda_local: float = 1.0,
    ) -> None:
        super().__init__()
        self.choices = choices
        self.lambda_kd = lambda_kd
        self.lambda_global = lambda_global
        self.lambda_local = lambda_local

    @whole_graph(varies=True)
    def forward(
        self,
        parts: tuple[Tensor, Tensor],  # (B,) each, of the image score: the text's probability, the map's maximum
        maps: Tensor,  # (M, B, H, W) log-odds of the abnormal state: of the joined map, or of one for each stage
        label: Tensor,  # (B,) true where anomalous
        mask: Tensor,  # (B, H, W) nonzero where anomalous
        distances: Tensor | None = None,  # (n, S) from the knowledge to the prompts of each state
        shares: Tensor | None = None,  # (n,) their weights; None for their mean
        normal: Tensor | None = None,  # (M, B, H, W) log-odds of the normal state; None: those of the rest
    ) -> dict[str, Tensor]:
        """Compute every term and their weighted sum, `loss`."""
        target = (mask > 0).float()
        with torch.autocast(maps.device.type, enabled=False):
            pairs = zip(maps, [None] * len(maps) if normal is None else normal, strict=True)
            local = torch.stack([self._local(*each, target) for each in pairs]).sum(0)
            terms = {"loss_global": score_loss(*parts, label.float(), self.choices.score_reduction)}
            terms.update(zip(("loss_focal", "loss_dice_normal", "loss_dice_abnormal"), local.unbind(), strict=True))
            total = self.lambda_global * terms["loss_global"] + self.lambda_local * local.sum()
            if distances is not None:
                missed = knowledge_loss(distances, self.choices.kd_margin)
                terms["loss_kd"] = missed.mean() if shares is None else (shares * missed).sum()
                total = total + self.lambda_kd * terms["loss_kd"]
        return {"loss": total, **terms}

    def _local(
        self,
        abnormal: Tensor,  # (B, H, W) log-odds
        normal: Tensor | None,  # (B, H, W) log-odds; None for those of the rest
        target: Tensor,  # (B, H, W)
    ) -> Tensor:  # (3,), the terms of eq. 15
        normal = -abnormal if normal is None else normal
        dice_normal = dice_loss(normal.sigmoid(), 1 - target)
        dice_abnormal = dice_loss(abnormal.sigmoid(), target)
        return torch.stack([binary_focal_loss(abnormal, target, self.choices.focal_gamma), dice_normal, dice_abnormal])


def knowledge_distances(
    target: Tensor,  # (n, D)
    text: Tensor,  # (n, S, D)
) -> Tensor:  # (n, S) in [0, 2]
    """Compute the distances of the prompts of each state from the knowledge, as unit vectors."""
    return torch.linalg.vector_norm(F.normalize(target, dim=-1)[:, None] - F.normalize(text, dim=-1), dim=-1)


def knowledge_loss(
    distances: Tensor,  # (n, S), normal and abnormal
    margin: float = 0.0,
) -> Tensor:  # (n,)
    """Knowledge-driven loss of each class, eq. 2: 0 where the abnormal prompts are nearer by the margin."""
    return F.relu(distances[:, 1] - distances[:, 0] + margin)
