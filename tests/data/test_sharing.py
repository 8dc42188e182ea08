"""Several processes have the images that one would have."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, SequentialSampler

from anomalib_zsad.data import MVTec
from anomalib_zsad.data.sharing import ShareOfCategories


def datamodule_of(root: Path, processes: int = 1, rank: int = 0, **arguments: Any) -> MVTec:
    datamodule = MVTec(
        root, ["bottle", "grid"], **{"num_workers": 0, "val_ratio": 0.4, "eval_batch_size": 2, **arguments}
    )
    datamodule.trainer = SimpleNamespace(world_size=processes, global_rank=rank, lightning_module=None)
    datamodule.setup(TrainerFn.FITTING)
    return datamodule


def paths_of(loader: DataLoader) -> list[list[str]]:
    return [batch.image_path for batch in loader]


def test_processes_train_together_on_the_batches_of_one(mvtec_root: Path) -> None:
    shares = [datamodule_of(mvtec_root, 2, rank, train_batch_size=2).train_dataloader() for rank in range(2)]
    alone = datamodule_of(mvtec_root, train_batch_size=4).train_dataloader()

    assert len(alone.dataset) == 8
    for _ in range(3):
        first, second, single = map(paths_of, (*shares, alone))
        assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == [sorted(batch) for batch in single]


def test_a_share_is_as_large_as_the_others(mvtec_root: Path) -> None:
    shares = [paths_of(datamodule_of(mvtec_root, 3, rank).train_dataloader())[0] for rank in range(3)]
    alone = paths_of(datamodule_of(mvtec_root).train_dataloader())[0]

    assert [len(share) for share in shares] == [3, 3, 3]
    assert sorted(path for share in shares for path in share) == sorted([*alone, alone[0]])


def test_the_order_depends_on_seed_and_epoch_alone(mvtec_root: Path) -> None:
    def order(epochs: Sequence[int], **arguments: Any) -> list[list[str]]:
        loader = datamodule_of(mvtec_root, train_batch_size=3, **arguments).train_dataloader()
        for epoch in epochs:
            iterator = iter(loader)  # before the epoch is known, as Lightning does
            loader.sampler.set_epoch(epoch)
            found = [batch.image_path for batch in iterator]
        return found

    assert order([0, 1, 2]) == order([2])
    assert order([2]) == order([1, 2], num_workers=2)
    assert len({str(order([epoch], seed=seed)) for epoch in range(2) for seed in range(2)}) == 4


def test_a_loader_goes_on_where_it_was(mvtec_root: Path) -> None:
    datamodule = datamodule_of(mvtec_root, train_batch_size=3)
    loader, again = datamodule.train_dataloader(), datamodule.train_dataloader()
    iterator = iter(loader)
    whole = [next(iterator).image_path]
    again.load_state_dict(loader.state_dict())
    whole += [batch.image_path for batch in iterator]
    assert len(whole) == 3
    assert paths_of(again) == whole[1:]
    assert paths_of(again) == whole
    again.load_state_dict(loader.state_dict())
    again.sampler.set_epoch(1)
    assert len(paths_of(again)) == 3  # what was left out was of another epoch


@pytest.mark.parametrize("processes", [1, 4])
def test_every_validation_image_is_seen_once(mvtec_root: Path, processes: int) -> None:
    loaders = [datamodule_of(mvtec_root, processes, rank).val_dataloader() for rank in range(processes)]
    seen = [path for loader in loaders for batch in paths_of(loader) for path in batch]

    assert len(seen) == 6
    assert sorted(seen) == sorted(loaders[0].dataset.samples["image_path"])


def test_too_few_validation_images_are_left_to_lightning(mvtec_root: Path) -> None:
    loader = datamodule_of(mvtec_root, 8, 7).val_dataloader()

    assert len(paths_of(loader)) == 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_category_is_tested_by_one_process(mvtec_root: Path, processes: int) -> None:
    loaders = [datamodule_of(mvtec_root, processes, rank).test_dataloader() for rank in range(processes)]
    seen = [{Path(path).parents[2].name for batch in paths_of(loader) for path in batch} for loader in loaders]

    assert seen == ([{"bottle", "grid"}] if processes == 1 else [{"bottle"}, {"grid"}])
    assert sum(len(loader.sampler) for loader in loaders) == len(loaders[0].dataset) == 6


class OfCategories(list):
    """Images of which only the category is known."""

    @property
    def samples(self) -> pd.DataFrame:
        return pd.DataFrame({"category": self})


def test_processes_have_about_as_many_images() -> None:
    trainers = [SimpleNamespace(world_size=2, global_rank=rank) for rank in range(2)]
    shares = [list(ShareOfCategories(OfCategories("aabbbbbcdd"), trainer)) for trainer in trainers]

    assert shares == [[2, 3, 4, 5, 6], [0, 1, 7, 8, 9]]


def test_more_processes_than_categories_are_left_to_lightning(mvtec_root: Path) -> None:
    assert isinstance(datamodule_of(mvtec_root, 3, 0).test_dataloader().sampler, SequentialSampler)
