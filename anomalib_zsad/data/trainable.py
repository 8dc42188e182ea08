"""Checks of training data; their messages name the command that trains on anomalous images."""

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from anomalib import TaskType
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import IterableDataset

from anomalib_zsad.data.categories import category_names

_COMMON = ("train_batch_size", "eval_batch_size", "num_workers")
"""Arguments that `Auxiliary` shares with its source."""

_LEFT_OUT = (*inspect.signature(AnomalibDataModule.__init__).parameters, "category", "categories", "source", "target")
_PLACEHOLDER = "<folder>"


def check_before_setup(datamodule: Any, model: type) -> None:
    """Refuse a datamodule that is known to have normal training images alone.

    Args:
        datamodule: The datamodule of the training, or None.
        model: Its class.

    Raises:
        ValueError: If its training images are all normal.
    """
    normal_alone = getattr(datamodule, "trains_on_normal_images", False)
    if normal_alone or getattr(datamodule, "abnormal_dir", _PLACEHOLDER) is None:  # anomalib's `Folder` fails by itself
        raise ValueError(_refusal(model, "all its training images are normal", datamodule))


def check_trainable(loaders: Any, datamodule: Any, model: type) -> None:
    """Refuse training data without anomalous images that have masks.

    Datasets without a table of samples are read until such an image is found.

    Args:
        loaders: The dataloader of a training, or a list or dictionary of them.
        datamodule: The datamodule of the training, or None.
        model: The model's class.

    Raises:
        ValueError: If no anomalous image has a mask.
    """
    datasets = [loader.dataset for loader in _listed(loaders) if hasattr(loader, "dataset")]
    if datasets and not any(map(_has_masked_anomalies, datasets)):
        count = sum(len(dataset) for dataset in datasets)
        found = f"none of its {count} training images is anomalous and has a mask"
        raise ValueError(_refusal(model, found, datamodule))


def check_model(datamodule: AnomalibDataModule, model: Any) -> None:
    """Refuse to train a model of anomalib, which learns from normal images, on anomalous ones.

    Args:
        datamodule: A datamodule with anomalous training images.
        model: The model to be trained, or None.

    Raises:
        ValueError: If it learns from normal images.
    """
    if hasattr(model, "learning_type") and not hasattr(model, "trains_on_anomalies"):
        msg = (
            f"{datamodule.name} has anomalous training images, for the models of anomalib_zsad: {type(model).__name__} "
            "would take them for normal. To train on the normal training images type "
            f"--data anomalib_zsad.AllCategories --data.source {_path_of(type(datamodule))}, its arguments as "
            "--data.source.<name>, and --data.categories to choose some."
        )
        raise ValueError(msg)


def _refusal(model: type, found: str, datamodule: Any) -> str:
    given = "A dataloader" if datamodule is None else type(datamodule).__name__
    needed = f"{given} cannot train {model.__name__}, which needs anomalous images with masks: {found}."
    if datamodule is None:
        advice = "Pass datamodule=VisA(...), or datamodule=Auxiliary(<a datamodule with such test images>)."
    else:
        words = shlex.join(_instead_of(datamodule)).replace(shlex.quote(_PLACEHOLDER), _PLACEHOLDER)
        advice = (
            f"Such images are in its test split; this trains on them: anomalib train --model {_path_of(model)} {words}"
        )
    return f"{needed} {advice}"


def _instead_of(datamodule: Any) -> list[str]:
    """Return the arguments of a command that trains on the anomalous images of a datamodule's dataset."""
    kind, source = type(datamodule), getattr(datamodule, "source", None)
    if getattr(datamodule, "trains_on_normal_images", False):
        return _instead_of(source)
    if kind.__name__ == "Visa" or source is not None:  # ours have both roles
        words = ["--data", "VisA" if kind.__name__ == "Visa" else kind.__name__]
        words += _arguments(getattr(source, "origin", source or datamodule), kind, "--data.")
    else:
        words = ["--data", "Auxiliary", "--data.source", _path_of(kind)]
        words += [*_arguments(datamodule, kind, "--data.source."), *_missing(datamodule)]
        if datamodule.category and category_names(datamodule) == [
            datamodule.category
        ]:  # one that its class does not list
            return [*words, "--data.source.category", datamodule.category]
    return [*words, "--data.categories", f"[{datamodule.category}]"] if datamodule.category else words


def _arguments(datamodule: Any, kind: type, start: str) -> Iterator[str]:
    """Return the arguments of a datamodule that differ from its defaults, as far as its attributes show."""
    for name, parameter in inspect.signature(kind).parameters.items():
        value, default = getattr(datamodule, name, None), parameter.default
        default = Path(default) if isinstance(value, Path) and isinstance(default, str) else default
        if isinstance(value, str | Path | int | float | list | tuple) and value != default:
            if name in _COMMON:
                yield from (f"--data.{name}", _word(value))
            elif name not in _LEFT_OUT:
                yield from (f"{start}{name}", _word(value))


def _missing(datamodule: Any) -> Iterator[str]:
    for name in ("abnormal_dir", "mask_dir"):  # of anomalib's `Folder`
        if getattr(datamodule, name, _PLACEHOLDER) is None:
            yield from (f"--data.source.{name}", _PLACEHOLDER)


def _word(value: Any) -> str:
    return str(value) if isinstance(value, str | Path | int | float) else f"[{','.join(map(str, value))}]"


def _path_of(kind: type) -> str:
    home = "anomalib_zsad" if kind.__module__.startswith("anomalib_zsad.") else kind.__module__
    return kind.__name__ if home.startswith("anomalib.") else f"{home}.{kind.__name__}"


def _listed(loaders: Any) -> list[Any]:
    if isinstance(loaders, dict):
        return list(loaders.values())
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders]


def _has_masked_anomalies(dataset: Any) -> bool:
    samples = getattr(dataset, "samples", None)
    if samples is None:
        if isinstance(dataset, IterableDataset):  # reading would use it up
            return True
        with isolate_rng():
            return any(_is_masked_anomaly(dataset[index]) for index in range(len(dataset)))
    if dataset.task != TaskType.SEGMENTATION or "mask_path" not in samples:
        return False
    masks = samples["mask_path"][samples["label_index"] == LabelName.ABNORMAL]
    return any(bool(mask) for mask in masks if isinstance(mask, str | Path | list))


def _is_masked_anomaly(item: Any) -> bool:
    label, mask = (getattr(item, name, None) for name in ("gt_label", "gt_mask"))
    return mask is not None and label is not None and bool(np.asarray(label).any())
