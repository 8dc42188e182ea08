"""Text features of classes: each class is encoded once, and each image gets those of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from anomalib_zsad.data.names import dataset_key, tested_by

Encode = Callable[[Sequence[str]], dict[str, Tensor]]


class ClassText:
    """What a text tower said of classes, remembered until what it depends on changes."""

    def __init__(self) -> None:
        self._known: tuple[object, dict[str, Tensor]] = (None, {})

    def of(
        self,
        names: Sequence[str],  # B
        sources: Sequence[Tensor],
        encode: Encode,
    ) -> Tensor:  # (B, ...)
        """Give every image the features of its class.

        Args:
            names: The class of each image, in the words of its prompts.
            sources: The tensors that the features depend on. Where one of them learns, with gradients switched on,
                nothing is remembered; else each class is encoded once for every state of them.
            encode: Encodes distinct classes.
        """
        if torch.is_grad_enabled() and any(source.requires_grad for source in sources):
            features = encode(list(dict.fromkeys(names)))
        else:
            features = self._remembered(names, sources, encode)
        return torch.stack([features[name] for name in names])

    def _remembered(self, names: Sequence[str], sources: Sequence[Tensor], encode: Encode) -> dict[str, Tensor]:
        state = (sources[0].device, tuple((id(source), source._version) for source in sources))
        known = self._known[1] if self._known[0] == state else {}
        missing = [name for name in dict.fromkeys(names) if name not in known]
        if missing:
            with torch.inference_mode(mode=False), torch.no_grad():
                known = {**known, **encode(missing)}
        self._known = (state, known)
        return known


def dataset_of(
    module: Any,  # a LightningModule
    category: str,
) -> str | None:
    """Name the dataset of a category that a model is given, as `dataset_key` does; None where there is no datamodule.

    A datamodule with a target trains and validates on a dataset of its own name, and tests on the target's.
    """
    trainer = module._trainer
    datamodule = getattr(trainer, "datamodule", None)
    if datamodule is None:
        return None
    read = datamodule if trainer.state.fn == TrainerFn.FITTING else tested_by(datamodule)
    return dataset_key(read.dataset_with(category) if hasattr(read, "dataset_with") else read.name)
