"""The optimiser that a command names."""

from types import MethodType
from typing import Any

from lightning.pytorch.cli import LightningCLI, SaveConfigCallback, instantiate_class


def take_given_optimizer(model: Any, trainer: Any) -> None:
    """Train with the `--optimizer` and `--lr_scheduler` of the command line, where it has them.

    anomalib's `train` reads them and leaves them unused; its `fit` gives the model a method that Lightning refuses.

    Args:
        model: What is to be trained.
        trainer: Has the configuration of the command among its callbacks.

    Raises:
        ValueError: If there is a scheduler without an optimiser.
    """
    optimizer, scheduler = (_given(trainer, name) for name in ("optimizer", "lr_scheduler"))
    if scheduler and not optimizer:
        msg = f"--lr_scheduler {scheduler['class_path']}: expected --optimizer beside it, got none"
        raise ValueError(msg)
    if not optimizer:
        return

    def configure_optimizers(module: Any) -> Any:
        made = instantiate_class((each for each in module.parameters() if each.requires_grad), optimizer)
        schedule = instantiate_class(made, scheduler) if scheduler else None
        return LightningCLI.configure_optimizers(module, made, schedule)

    model.configure_optimizers = MethodType(configure_optimizers, model)


def _given(trainer: Any, name: str) -> dict[str, Any] | None:
    configs = [each.config for each in trainer.callbacks if isinstance(each, SaveConfigCallback)]
    found = next((each[name] for each in configs if each.get(name)), None)
    return None if found is None else found.as_dict()
