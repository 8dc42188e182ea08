"""Where a training differs from the one that a paper's figures were made with."""

import logging
from typing import Any

logger = logging.getLogger(__name__)


def compare_batch_size(
    trainer: Any,  # Lightning's, with its training data
    published: int,
) -> None:
    """Say once where a step sees another number of images than in the paper.

    Args:
        trainer: In its training.
        published: Images in a batch of the paper.
    """
    size = getattr(trainer.train_dataloader, "batch_size", None)
    images = None if size is None else size * trainer.world_size * trainer.accumulate_grad_batches
    if images not in {None, published} and trainer.is_global_zero:
        words = "A training step sees %d images, the paper's %d: --data.train_batch_size %d trains as published."
        logger.warning(words, images, published, published)
