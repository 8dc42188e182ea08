"""Differences between a training and the protocol of its paper."""

import logging
from typing import Any

logger = logging.getLogger(__name__)


def compare_batch_size(
    trainer: Any,  # Lightning's
    published: int,
) -> None:
    """Warn where the effective batch size differs from the paper's.

    Args:
        trainer: During training, with its training data.
        published: Images in a batch of the paper.
    """
    size = getattr(trainer.train_dataloader, "batch_size", None)
    images = None if size is None else size * trainer.world_size * trainer.accumulate_grad_batches
    if images not in {None, published} and trainer.is_global_zero:
        words = "A training step sees %d images, the paper's %d: --data.train_batch_size %d trains as published."
        logger.warning(words, images, published, published)
