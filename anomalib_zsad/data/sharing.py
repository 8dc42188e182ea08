"""How the processes of a distributed run share the images of a dataset."""

from collections.abc import Iterator
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DistributedSampler, RandomSampler


class ShareInOrder(DistributedSampler):
    """Every process takes its turn in the order in which a single one would have the images.

    So n processes with batches of b images see together, at every step, the batch of n b images of a single process.
    Where the processes cannot have the same number of images, the first of the order come again at its end.

    Args:
        dataset: The images.
        trainer: Knows the processes. None: there is one.
        generator: Decides the order, a new one for every epoch.
    """

    def __init__(self, dataset: AnomalibDataset, trainer: Any, generator: torch.Generator) -> None:
        super().__init__(dataset, *_processes(trainer))
        self.images = dataset
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        order = list(RandomSampler(self.images, generator=self.generator))
        turns = range(self.rank, self.total_size, self.num_replicas)
        return iter([order[turn % len(order)] for turn in turns])


class ShareOfCategories(DistributedSampler):
    """Every process has all images of some categories, about as many as the others, in their order.

    So a process knows all that the metrics of its categories need.

    Args:
        dataset: The images, of at least as many categories as there are processes.
        trainer: Knows the processes.
    """

    def __init__(self, dataset: AnomalibDataset, trainer: Any) -> None:
        super().__init__(dataset, *_processes(trainer), shuffle=False)
        names = dataset.samples["category"]
        images = [0] * self.num_replicas
        own = set()
        for name, count in sorted(names.value_counts().items(), key=lambda item: (-item[1], item[0])):
            least = images.index(min(images))
            images[least] += count
            if least == self.rank:
                own.add(name)
        self.rows = names.isin(own).to_numpy().nonzero()[0].tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def share_categories(dataset: AnomalibDataset, trainer: Any) -> ShareOfCategories | None:
    """Share categories; None where there is one process, or a process would have none.

    Args:
        dataset: The images.
        trainer: Knows the processes. None: there is one.
    """
    processes, _ = _processes(trainer)
    return ShareOfCategories(dataset, trainer) if 1 < processes <= dataset.samples["category"].nunique() else None


def share_once(dataset: AnomalibDataset, trainer: Any) -> DistributedSampler | None:
    """Share images so that none is seen twice; None leaves sharing to Lightning, which repeats some.

    Args:
        dataset: The images.
        trainer: Knows the processes. None: there is one.
    """
    processes, rank = _processes(trainer)
    # A process without an image would not take part when thresholds are computed of all of them.
    if processes == 1 or len(dataset) < processes:
        return None
    return UnrepeatedDistributedSampler(dataset, processes, rank, shuffle=False)


def _processes(trainer: Any) -> tuple[int, int]:  # how many, which one
    return (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
