"""Losses of the methods: pure functions of tensors."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.functional.processes import sum_over_processes

ScoreReduction = Literal["half", "clamp", "separate", "logits"]

MARGIN = 1e-5
"""How far focal losses of probabilities keep from 0 and 1, where logarithms are infinite."""


def binary_focal_loss(
    log_odds: Tensor,  # any shape
    target: Tensor,  # the same shape, in [0, 1]
    gamma: float,
) -> Tensor:
    """Mean focal loss without class weights, (1 - p_t)^gamma * BCE, from log-odds so that it never overflows.

    p_t = p y + (1 - p) (1 - y), so that a target of one half has the focus of one half, whatever p.

    Source: Lin et al. 2017, eq. 4; AF-CLIP eq. 11.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(log_odds, target, reduction="none")
    missed = target * torch.sigmoid(-log_odds) + (1 - target) * torch.sigmoid(log_odds)  # 1 - p_t
    return (missed**gamma * cross_entropy).mean()


def clamped_focal_loss(
    probabilities: Tensor,  # any shape, of the anomalous state
    target: Tensor,  # the same shape, true where anomalous
    gamma: float = 2.0,
) -> Tensor:
    """Mean focal loss of probabilities, without class weights; that of the true state is kept `MARGIN` from 0 and 1.

    Source: WMoE-CLIP eq. 10.
    """
    likelihood = torch.where(target, probabilities, 1 - probabilities).clamp(MARGIN, 1 - MARGIN)
    return ((1 - likelihood) ** gamma * -likelihood.log()).mean()


def smoothed_focal_loss(
    probabilities: Tensor,  # any shape, of the anomalous state
    target: Tensor,  # the same shape, in {0, 1}
    gamma: float = 2.0,
) -> Tensor:
    """Mean focal loss of probabilities, without class weights; targets are kept `MARGIN` from 0 and 1.

    Source: ACD-CLIP eq. 7 as its released implementation computes it, which adds `MARGIN` in the logarithm too.
    """
    target = target.clamp(MARGIN, 1 - MARGIN)
    likelihood = target * probabilities + (1 - target) * (1 - probabilities) + MARGIN
    # At a perfect pixel rounding may take it above 1.
    return (-((1 - likelihood).clamp(min=0) ** gamma) * likelihood.log()).mean()


def masked_alignment(
    normal_sum: Tensor,  # (K, B, D) sum of the unit-length features of an image's normal patches
    anomalous_sum: Tensor,  # (K, B, D) the same of its anomalous patches
    n_normal: Tensor,  # (B,)
    n_anomalous: Tensor,  # (B,)
) -> Tensor:
    """Patch alignment: normal and anomalous patches of an image should be less similar than patches of one kind.

    max(0, mean cos over N-A pairs - mean cos over N-N and A-A pairs), over all ordered pairs within an image
    (self-pairs included), pooled over the batch (those of all processes of a training), mean over the K token sets. The
    mean over pairs of unit vectors is the product of their sums, so no pair is ever formed. 0 where the batch has no
    normal or no anomalous patch.

    Source: AF-CLIP eq. 14.
    """
    unlike = (normal_sum * anomalous_sum).sum(dim=(-2, -1))
    alike = (normal_sum.square() + anomalous_sum.square()).sum(dim=(-2, -1))
    n_unlike = n_normal * n_anomalous
    n_alike = n_normal.square() + n_anomalous.square()
    counts = torch.stack([n_unlike, n_alike, n_normal, n_anomalous]).sum(1)
    unlike, alike, counts = sum_over_processes(torch.cat([unlike, alike, counts])).split([len(unlike), len(alike), 4])
    both = (counts[2:] > 0).all()
    gap = unlike / counts[0].clamp(min=1) - alike / counts[1].clamp(min=1)
    return F.relu(gap).mean() * both


def dice_loss(
    probabilities: Tensor,  # (B, ...) in [0, 1]
    target: Tensor,  # the same shape, in {0, 1}
    smooth: float = 1.0,
) -> Tensor:
    """Dice loss of every image, mean over the batch.

    Source: Milletari et al. 2016, with unsquared sums as ACD-CLIP and KAnoCLIP have them.
    """
    p, t = probabilities.flatten(1), target.flatten(1)
    overlap = 2 * (p * t).sum(1) + smooth
    return 1 - (overlap / (p.sum(1) + t.sum(1) + smooth)).mean()


def score_loss(
    text: Tensor,  # (B,) in [0, 1]
    peak: Tensor,  # (B,) in [0, 1]
    label: Tensor,  # (B,) in {0, 1}
    reduction: ScoreReduction = "half",
    weight: float = 1.0,
) -> Tensor:
    """Cross-entropy of an image score that is a sum of two parts, which has to lie in [0, 1] for it.

    Args:
        text: The text's probability.
        peak: The map's maximum.
        label: 1 where anomalous.
        reduction: Of the sum, its "half" as it is reported; the sum cut at 1 ("clamp"); both parts each for itself
            ("separate", their mean); or the sum as log-odds ("logits").
        weight: How many times the peak counts; "half" is the share of what the sum is at most.

    Source: KAnoCLIP eq. 12 and 14; WMoE-CLIP eq. 9.
    """
    total = text + weight * peak
    if reduction == "half":
        return F.binary_cross_entropy(total / (1 + weight), label)
    if reduction == "clamp":
        return F.binary_cross_entropy(total.clamp(max=1), label)
    if reduction == "logits":
        return F.binary_cross_entropy_with_logits(total, label)
    return (F.binary_cross_entropy(text, label) + weight * F.binary_cross_entropy(peak, label)) / (1 + weight)
