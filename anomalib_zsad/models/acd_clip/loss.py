"""The losses of ACD-CLIP: cross-entropy of the image, focal and dice losses of the map."""

from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.functional.losses import dice_loss, smoothed_focal_loss
from anomalib_zsad.models.parts.compiling import Compilable, whole_graph


class ACDClipLoss(Compilable):
    """The losses of ACD-CLIP, eq. 7-8.

    Args:
        focal_gamma: Focusing exponent.
        lambda_focal: Weight of the focal loss.
        lambda_dice: Weight of the two dice losses.
        lambda_class: Weight of the cross-entropy.
    """

    def __init__(
        self,
        focal_gamma: float = 2.0,
        lambda_focal: float = 1.0,
        lambda_dice: float = 1.0,
        lambda_class: float = 1.0,
    ) -> None:
        super().__init__()
        self.focal_gamma = focal_gamma
        self.lambda_focal = lambda_focal
        self.lambda_dice = lambda_dice
        self.lambda_class = lambda_class

    @whole_graph(varies=True)
    def forward(
        self,
        logits: Tensor,  # (B, S) of the images
        maps: Tensor,  # (B, H, W) probabilities
        label: Tensor,  # (B,) true where anomalous
        mask: Tensor,  # (B, H, W) nonzero where anomalous
    ) -> dict[str, Tensor]:
        """Compute every term and their weighted sum, `loss`."""
        target = (mask > 0).float()
        terms = {
            "loss_class": F.cross_entropy(logits, label.long()),
            "loss_focal": smoothed_focal_loss(maps, target, self.focal_gamma),
            "loss_dice_normal": dice_loss(1 - maps, 1 - target),
            "loss_dice_anomalous": dice_loss(maps, target),
        }
        dice = terms["loss_dice_normal"] + terms["loss_dice_anomalous"]
        total = self.lambda_class * terms["loss_class"] + self.lambda_focal * terms["loss_focal"]
        return {"loss": total + self.lambda_dice * dice, **terms}
