"""Training diagnostics of WMoE-CLIP, for parts that can collapse without a visible change of the losses."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc

from anomalib_zsad.functional.scoring import entropy, probability
from anomalib_zsad.models.wmoe_clip.loss import divergence, reconstruction
from anomalib_zsad.models.wmoe_clip.torch_model import Logits

ACTIVE = 0.01
"""Divergence in nats above which a dimension of the latent carries information."""
SURVIVES = 0.5
"""Variance above which a direction of the class token outlives both losses of the autoencoder at weight 1."""


class Seen(NamedTuple):
    """The values of a batch that are kept until the end of the epoch."""

    scores: Tensor  # (4, B): probability of the class token, minimum and maximum of the map, label
    sampled: list[Tensor]  # x_c (B, D), divergence (B, D), reconstruction (B, m); nothing without CTDS

    def on_cpu(self) -> "Seen":
        """Move all tensors to the CPU, for other processes."""
        return Seen(self.scores.cpu(), [each.cpu() for each in self.sampled])


def of_step(logits: Logits) -> dict[str, Tensor]:
    """Compute the diagnostics of one batch.

    Returns:
        For each layer: entropy of the attention (nats), cosine of the two refined texts, mean of the gate. Of the
        experts: how often each is used, and the entropy of the router (nats). All are means over the images.
    """
    found = {}
    for layer, attended in enumerate(logits.attended, 1):
        found[f"attention_entropy_{layer}"] = entropy(attended.weights).mean()
        found[f"text_cosine_{layer}"] = F.cosine_similarity(attended.text[:, 0], attended.text[:, 1]).mean()
        found[f"gate_{layer}"] = attended.gate.mean()
    if logits.routed is not None:
        load = (logits.routed.weights > 0).float().mean(0)
        found.update({f"expert_load_{i}": share for i, share in enumerate(load, 1)})
        found["router_entropy"] = entropy(logits.routed.logits.softmax(-1)).mean()
    return {name: value.detach() for name, value in found.items()}


def seen_in(
    logits: Logits,
    maps: Tensor,  # (B, L, H, W)
    label: Tensor,  # (B,)
) -> Seen:
    """Collect the values for `of_epoch`."""
    sample = logits.sample
    low, high = maps.mean(1).flatten(1).aminmax(dim=1)
    scores = torch.stack([probability(logits.image), low, high, label.float()])
    # A copy of the token: CUDA graphs write the next one into the same memory.
    sampled = [] if sample is None else [sample.token.clone(), divergence(sample), reconstruction(sample)]
    return Seen(scores.detach(), [each.detach() for each in sampled])


def of_epoch(seen: Sequence[Seen]) -> dict[str, Tensor]:
    """Compute the diagnostics of all training images of an epoch.

    Returns:
        AUROC of each part of the image score, and the map's range on normal images. Of the class token: mean length,
        variance, and in how many directions the variance is above `SURVIVES`. Of the autoencoder: dimensions whose
        mean divergence is above `ACTIVE`, and the reconstruction's error as a share of the variance: 1 is that of the
        mean alone.
    """
    found: dict[str, Tensor] = {}
    text, low, high, label = torch.cat([each.scores for each in seen], dim=1)
    normal = label == 0
    if normal.any():
        found.update(normal_map_min=low[normal].amin(), normal_map_max=high[normal].amax())
    if label.amin() < label.amax():
        found.update(auroc_text=binary_auroc(text, label.int()), auroc_map=binary_auroc(high, label.int()))
    if seen[0].sampled:
        token, divergences, errors = (torch.cat(each) for each in zip(*(each.sampled for each in seen), strict=True))
        variances = _variances(token)
        found.update(
            class_token_length=torch.linalg.vector_norm(token, dim=-1).mean(),
            class_token_variance=variances.sum(),
            class_token_directions=(variances > SURVIVES).float().sum(),
            active_dimensions=(divergences.mean(0) > ACTIVE).float().sum(),
            reconstruction_share=errors.mean() / variances.sum().clamp(min=torch.finfo(torch.float32).tiny),
        )
    return found


def _variances(
    tokens: Tensor,  # (n, D)
) -> Tensor:  # (min(n, D),) eigenvalues of the covariance
    centred = tokens - tokens.mean(0)
    return (torch.linalg.svdvals(centred.cpu()).square() / max(len(tokens) - 1, 1)).to(tokens.device)
