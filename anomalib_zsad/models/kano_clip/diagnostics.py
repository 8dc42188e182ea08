"""What is worth watching while KAnoCLIP trains: whether each of its parts does anything."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from anomalib_zsad.models.kano_clip.torch_model import Logits, Scores


def of_step(logits: Logits, scores: Scores, active: Tensor | None, distances: Tensor | None) -> dict[str, Tensor]:
    """Measure a training step.

    Args:
        logits: Of the batch.
        scores: Of the batch.
        active: Which classes the knowledge-driven loss pulls at, (n,).
        distances: From the knowledge to the prompts of both states, (n, S).
    """
    found = {"score_text": scores.text.mean(), "score_map": scores.smooth.amax(dim=(-2, -1)).mean()}
    for name, each in (("offset", logits.offsets), ("entropy", logits.entropies)):
        found.update({f"{name}_stage{i}": value for i, value in enumerate(each, 1)})
    if active is not None and distances is not None:
        normal, abnormal = distances.mean(0)
        found.update({"kd_active": active.float().mean(), "kd_normal": normal, "kd_abnormal": abnormal})
    return {name: value.detach() for name, value in found.items()}


def parts_of(scores: Scores, label: Tensor) -> Tensor:  # (3, B)
    """Keep what the image score of each image is made of, and its label."""
    return torch.stack([scores.text, scores.smooth.amax(dim=(-2, -1)), label.float()]).detach()


def auroc_of(
    parts: Sequence[Tensor],  # of (3, B)
) -> dict[str, Tensor]:
    """Measure how well each part of the image score alone tells the training images apart."""
    text, maps, label = torch.cat(list(parts), dim=1)
    if label.amin() == label.amax():
        return {}
    return {name: binary_auroc(score, label.int()) for name, score in (("auroc_text", text), ("auroc_map", maps))}
