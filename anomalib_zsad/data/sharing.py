"""The order of training images, and samplers that divide a dataset among the processes of a distributed run."""

from collections.abc import Iterator
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, DistributedSampler

from anomalib_zsad.functional.seeds import generator_of


class ShareInOrder(DistributedSampler):
    """Distributes images over processes in the order of a single process.

    At every step n processes with batches of b images have the batch of n b images of a single process. If the number
    of images is not divisible, the first ones are repeated at the end. The order depends on the seed and the epoch
    alone; the epoch of a `CategoryDataset` is set for its augmentations.

    Args:
        dataset: The images.
        trainer: Has the number of processes. None: one process.
        seed: Determines the order, with the epoch.
    """

    def __init__(self, dataset: AnomalibDataset, trainer: Any, seed: int) -> None:
        super().__init__(dataset, *_processes(trainer), seed=seed)
        self.images: Any = dataset
        self.first = 0

    def __iter__(self) -> Iterator[int]:
        generator = generator_of("order", self.seed, self.epoch)
        order = torch.randperm(len(self.images), generator=generator).tolist()
        turns = range(self.rank, self.total_size, self.num_replicas)
        return iter([order[turn % len(order)] for turn in turns[self.first :]])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch."""
        super().set_epoch(epoch)
        self.images.epoch = epoch


class TrainingLoader(DataLoader):
    """A data loader over a `ShareInOrder` that resumes an interrupted training within the epoch.

    Lightning makes the iterator of the first epoch before it sets the epoch, and workers would read images in the order
    of another one. So nothing is read before the first batch is requested.
    """

    sampler: ShareInOrder
    _given = 0
    _left_off: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        left_off, self._left_off = self._left_off, None
        return self._from(left_off or {"epoch": -1, "batches": 0})  # of no epoch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches so far."""
        return {"epoch": self.sampler.epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches of an interrupted epoch."""
        self._left_off = state

    def _from(self, left_off: dict[str, int]) -> Iterator[Any]:
        self._given = left_off["batches"] if left_off["epoch"] == self.sampler.epoch else 0
        self.sampler.first = self._given * (self.batch_size or 1)
        for batch in super().__iter__():
            self._given += 1
            yield batch


class ShareOfCategories(DistributedSampler):
    """Distributes whole categories over processes, with about as many images for each.

    So a process has all scores for the metrics of its categories.

    Args:
        dataset: The images, of at least as many categories as there are processes.
        trainer: Has the number of processes.
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
    """Make the sampler that distributes categories; None for one process, or if a process would have none.

    Args:
        dataset: The images.
        trainer: Has the number of processes. None: one process.
    """
    processes, _ = _processes(trainer)
    return ShareOfCategories(dataset, trainer) if 1 < processes <= dataset.samples["category"].nunique() else None


def share_once(dataset: AnomalibDataset, trainer: Any) -> DistributedSampler | None:
    """Make the sampler that distributes images without repeating any; None: Lightning's, which repeats some.

    Args:
        dataset: The images.
        trainer: Has the number of processes. None: one process.
    """
    processes, rank = _processes(trainer)
    # A process without an image would not take part when thresholds are computed of all of them.
    if processes == 1 or len(dataset) < processes:
        return None
    return UnrepeatedDistributedSampler(dataset, processes, rank, shuffle=False)


def _processes(trainer: Any) -> tuple[int, int]:  # how many, which one
    return (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
