"""The gate of WMoE-CLIP: weights of high frequencies for each patch (eq. 5)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices


class FrequencyGate(nn.Module):
    """Weights of high frequencies from a global and a local branch, eq. 5.

    Args:
        width: D.
        choices: Inner width of the local branch, and batch normalisation after every linear map of both branches.
    """

    def __init__(self, width: int, choices: WMoEChoices = WMoEChoices()) -> None:
        super().__init__()
        reduction, norm = choices.gate_reduction, choices.gate_bn
        self.whole = nn.Linear(width, width)
        self.inner = nn.Linear(width, width // reduction)
        self.outer = nn.Linear(width // reduction, width)
        self.whole_norm = TokenNorm(width) if norm else nn.Identity()
        self.inner_norm = TokenNorm(width // reduction) if norm else nn.Identity()
        self.outer_norm = TokenNorm(width) if norm else nn.Identity()

    def forward(
        self,
        patches: Tensor,  # (B, gh, gw, D)
    ) -> Tensor:  # (B, gh, gw, D) in (0, 1)
        """Compute W_h."""
        whole = self.whole_norm(self.whole(F.relu(patches.mean(dim=(1, 2), keepdim=True))))
        local = self.outer_norm(self.outer(F.relu(self.inner_norm(self.inner(patches)))))
        return torch.sigmoid(whole + local)


class TokenNorm(nn.Module):
    """Batch normalisation of every channel over all tokens of a batch.

    A single token has no variance: it is normalised by the running statistics also in training.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(
        self,
        tokens: Tensor,  # (..., D)
    ) -> Tensor:  # (..., D)
        """Normalise the tokens."""
        flat, norm = tokens.flatten(0, -2), self.norm
        if self.training and flat.shape[0] == 1:
            flat = F.batch_norm(flat, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            flat = norm(flat)
        return flat.view_as(tokens)
