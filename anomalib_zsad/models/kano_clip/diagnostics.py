"""Training diagnostics of KAnoCLIP: the effect of each of its parts."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from anomalib_zsad.functional.scoring import size_of
from anomalib_zsad.models.kano_clip.torch_model import Logits, Scores


def of_step(logits: Logits, scores: Scores, active: Tensor | None, distances: Tensor | None) -> dict[str, Tensor]:
    """Compute the diagnostics of a training step.

    Args:
        logits: Logits of the batch.
        scores: Scores of the batch.
        active: Whether the knowledge-driven loss of each class is above 0, (n,).
        distances: Distances from the knowledge to the prompts of both states, (n, S).
    """
    found = {"score_text": scores.text.mean(), "score_map": scores.smooth.amax(dim=(-2, -1)).mean()}
    for name, each in (("offset", logits.offsets), ("entropy", logits.entropies)):
        found.update({f"{name}_stage{i}": value for i, value in enumerate(each, 1)})
    if active is not None and distances is not None:
        normal, abnormal = distances.mean(0)
        found.update({"kd_active": active.float().mean(), "kd_normal": normal, "kd_abnormal": abnormal})
    return {name: value.detach() for name, value in found.items()}


def parts_of(scores: Scores, label: Tensor) -> Tensor:  # (3, B)
    """Return the parts of the score of each image, and its label."""
    return torch.stack([scores.text, scores.smooth.amax(dim=(-2, -1)), label.float()]).detach()


@torch.no_grad()
def parts_of_held_out(module: Any) -> list[Tensor]:  # of (3, B)
    """Return the same for all validation images of a training, without changing the state of its random numbers.

    Args:
        module: A `KAnoClip` in training.
    """
    trainer, found = module.trainer, []
    loaders = trainer.val_dataloaders or []
    loaders = loaders if isinstance(loaders, list) else [loaders]
    with torch.random.fork_rng(devices=[]), trainer.precision_plugin.val_step_context():
        for loader, count in zip(loaders, trainer.num_val_batches, strict=True):
            for each in islice(loader, count):
                batch = trainer.strategy.batch_to_device(each)
                if module.pre_processor:
                    module.pre_processor.on_validation_batch_start(trainer, module, batch, 0)
                logits = module.model.logits(batch.image, module.names_of(batch))
                found.append(parts_of(module.model.scores(logits, size_of(batch.image)), batch.gt_label))
    return found


def auroc_of(
    parts: Sequence[Tensor],  # of (3, B)
) -> dict[str, Tensor]:
    """Compute the AUROC of the image score and of each of its parts; empty if all images have one label."""
    text, maps, label = torch.cat(list(parts), dim=1) if parts else torch.empty(3, 0)
    if len(label.unique()) < 2:
        return {}
    scores = {"auroc_text": text, "auroc_map": maps, "auroc_image": (text + maps) / 2}
    return {name: binary_auroc(score, label.int()) for name, score in scores.items()}
