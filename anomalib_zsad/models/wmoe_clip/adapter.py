"""The modules of WMoE-CLIP for patches: projection and wavelet-enhanced cross-attention (eq. 5-7)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.gate import FrequencyGate
from anomalib_zsad.models.wmoe_clip.wavelet import HaarBands


class PatchProjections(nn.Module):
    """Projections of the patches of every layer to the joint space.

    Args:
        clip: The frozen CLIP.
        n_layers: L.
        choices: Trained projections with their initialisation, or CLIP's own.
    """

    def __init__(self, clip: FrozenClip, n_layers: int, choices: WMoEChoices = WMoEChoices()) -> None:
        super().__init__()
        self.ln_post = choices.patch_ln_post
        n_linears = n_layers if choices.patch_projection == "linear" else 0
        self.linears = nn.ModuleList(_projection(clip, choices.patch_projection_init) for _ in range(n_linears))

    def forward(
        self,
        clip: FrozenClip,
        layer: int,
        patches: Tensor,  # (B, N, C)
    ) -> Tensor:  # (B, N, D)
        """Project the patches of a layer."""
        patches = clip.ln_post(patches) if self.ln_post else patches
        return self.linears[layer](patches) if self.linears else patches @ clip.projection


class Attended(NamedTuple):
    """Text refined by the patches of a layer, with attention weights and gate."""

    text: Tensor  # (B, S, D)
    weights: Tensor  # (B, S heads, N) of the attention
    patches: Tensor  # (B, gh, gw, D) F_p
    gate: Tensor  # (B,) mean of W_h


class WaveletCrossAttention(nn.Module):
    """Cross-attention of text to patches whose high frequencies are gated, eq. 5-7.

    Each image has two queries and over a thousand patches, so keys and values are not computed: scores are F_p (W_k q),
    and the weighted sum of values is the value of the weighted sum of patches.

    Args:
        width: D.
        choices: Heads and residual of the attention, the wavelet and the gate.
    """

    def __init__(self, width: int, choices: WMoEChoices = WMoEChoices()) -> None:
        super().__init__()
        self.heads = choices.wcma_heads
        self.residual = choices.wcma_residual
        self.bands = HaarBands(choices)
        self.gate = FrequencyGate(width, choices)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        for linear in (self.to_q, self.to_k, self.to_v):
            nn.init.xavier_uniform_(linear.weight)

    def forward(
        self,
        patches: Tensor,  # (B, gh, gw, D) F_I
        text: Tensor,  # (B, S, D)
    ) -> Attended:
        """Refine the text."""
        low, high = self.bands(patches)
        gate = self.gate(low + high)
        enhanced = torch.addcmul(low, high, gate)  # eq. 6
        refined, weights = self.attend(enhanced.flatten(1, 2), text)
        refined = text + refined if self.residual else refined
        return Attended(refined, weights, enhanced, gate.mean(dim=(1, 2, 3)))

    def attend(
        self,
        patches: Tensor,  # (B, N, D) F_p
        text: Tensor,  # (B, S, D)
    ) -> tuple[Tensor, Tensor]:  # (B, S, D), and the weights (B, S heads, N)
        """Attend to patches, eq. 7."""
        query = self.to_q(text).unflatten(-1, (self.heads, -1))  # (B, S, heads, D / heads)
        key, value = (linear.weight.unflatten(0, (self.heads, -1)) for linear in (self.to_k, self.to_v))
        wide = torch.einsum("bshe,hed->bshd", query, key).flatten(1, 2) / query.shape[-1] ** 0.5
        weights = (wide @ patches.transpose(1, 2)).softmax(-1)
        seen = (weights @ patches).unflatten(1, (-1, self.heads))  # (B, S, heads, D)
        return torch.einsum("bshd,hed->bshe", seen, value).flatten(2), weights


def _projection(clip: FrozenClip, init: str) -> nn.Linear:
    linear = nn.Linear(clip.vision_width, clip.joint_width)
    nn.init.zeros_(linear.bias)
    if init == "clip":
        linear.weight.data.copy_(clip.projection.T)
    else:
        nn.init.xavier_uniform_(linear.weight)
    return linear
