"""What Lightning's trainer keeps to itself: loaders before they run, the folder of results, the number of epochs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import BatchSampler, DataLoader, Dataset


def trainer_of(module: Any) -> Any:  # of a Trainer
    """Return the trainer of a LightningModule; None where it has none, for which its `trainer` raises an error."""
    return module._trainer


def datamodule_of(module: Any) -> Any:
    """Return the datamodule of the trainer of a LightningModule; None where there is none."""
    return getattr(trainer_of(module), "datamodule", None)


def attach(module: LightningModule, trainer: Any, epochs: int | None) -> None:
    """Attach a trainer to a module, as the setter of its `trainer` does.

    Args:
        module: May have a setter of its own.
        trainer: Lightning's, or None.
        epochs: Of a training, where the trainer was given none.
    """
    LightningModule.trainer.fset(module, trainer)  # type: ignore[attr-defined]
    if getattr(trainer, "max_epochs", 0) is None:
        trainer.fit_loop.max_epochs = epochs


@contextmanager
def without_trainer(module: LightningModule) -> Iterator[None]:
    """Detach a module, and the modules in it, from their trainer for a while."""
    trainers = {each: trainer_of(each) for each in module.modules() if isinstance(each, LightningModule)}
    try:
        for each in trainers:
            each._trainer = None
        yield
    finally:
        for each, trainer in trainers.items():
            each._trainer = trainer


def share_results_folder(trainer: Any) -> None:
    """Let all processes write to the folder of the first one: anomalib numbers its folders in every process."""
    trainer._default_root_dir = trainer.strategy.broadcast(trainer._default_root_dir)


def loaders_given_to(trainer: Trainer) -> list[DataLoader]:
    """List the loaders that a trainer was handed for its stage, before any hook but `setup`."""
    loops: dict[Any, list[Any]] = {
        TrainerFn.FITTING: [trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop],
        TrainerFn.VALIDATING: [trainer.validate_loop],
        TrainerFn.TESTING: [trainer.test_loop],
        TrainerFn.PREDICTING: [trainer.predict_loop],
    }
    sources = [loop._data_source.instance for loop in loops.get(trainer.state.fn, ())]
    given = [
        source
        for source in sources
        if source is not None and not isinstance(source, LightningModule | LightningDataModule)
    ]
    loaders = [loader for source in given for loader in CombinedLoader(source).flattened]
    return [loader for loader in loaders if isinstance(loader, DataLoader)]


def change_loaders(trainer: Trainer, change: Callable[[Any], None]) -> None:
    """Change every loader of every stage in place before its workers start.

    Args:
        trainer: In its `setup`.
        change: Is called with the loader, after a checkpoint was read; it may be of any kind.
    """
    strategy: Any = trainer.strategy
    strategy.process_dataloader = partial(_changed, change, type(strategy).process_dataloader, strategy)


def replace_dataset(loader: DataLoader, dataset: Dataset) -> None:
    """Replace the dataset of a loader by one of the same length, which it refuses as an attribute."""
    vars(loader)["dataset"] = dataset


def change_batch_size(loader: DataLoader, batch_size: int) -> None:
    """Change the batch size of a loader, which it refuses as an attribute."""
    vars(loader).update(batch_size=batch_size, batch_sampler=BatchSampler(loader.sampler, batch_size, drop_last=False))


def _changed(change: Callable[[Any], None], process: Callable[[Any, Any], Any], strategy: Any, loader: Any) -> Any:
    change(loader)
    return process(strategy, loader)
