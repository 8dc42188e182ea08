"""Range checks: of scores when they are computed, of weights, thresholds and memories when they are loaded."""

from collections.abc import Mapping
from typing import Any

import torch
from anomalib.data import InferenceBatch
from torch import Tensor

_ROUNDING = 1e-5
"""The largest excess over [0, 1] that rounding may cause in a score."""
_MAY_BE_UNKNOWN = ("_threshold", "_min", "_max", "_scale.mean", "_scale.deviation")
"""Endings of the names of tensors that are NaN until they are fitted to data."""


def check_scores(
    result: InferenceBatch,
    batch: Any,  # of anomalib, with the paths of its images where they are known
    member: str | None = None,
) -> InferenceBatch:
    """Check that all scores of a batch are in [0, 1]; that those of an ensemble's member are finite.

    Returns:
        The scores, unchanged.

    Raises:
        ValueError: If one is not; the message names the image.
    """
    given = {name: values for name in ("pred_score", "anomaly_map") if (values := getattr(result, name)) is not None}
    fitting = {
        name: values.isfinite() if member else _within(values, -_ROUNDING, 1 + _ROUNDING)
        for name, values in given.items()
    }
    # One value for both: each read of a GPU waits for it.
    if not fitting or torch.stack([fits.all() for fits in fitting.values()]).all():
        return result
    for name, fits in fitting.items():
        if fits.all():
            continue
        values = given[name]
        row = int((~fits).nonzero()[0, 0])
        image = batch.image_path[row] if batch.image_path else f"image {row + 1} of the batch"
        msg = (
            f"{image}: expected {f'finite scores of {member}' if member else 'scores in [0, 1]'}, got {name} "
            f"{values[row][~fits[row]].flatten()[0]:g}: weights are damaged, or numbers overflow (try precision fp32)"
        )
        raise ValueError(msg)
    return result


def check_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    origin: str,
) -> None:
    """Check the types and ranges of tensors that are to be loaded.

    Args:
        tensors: Those of a file, by name.
        expected: Those that they replace; other names are not checked.
        origin: The file, for messages.

    Raises:
        ValueError: If a tensor has another type, or values out of range; the message names it.
    """
    for name in tensors.keys() & expected.keys():
        fault = _fault(name, tensors[name], expected[name])
        if fault is not None:
            msg = f"{origin}: expected {name} {fault}"
            raise ValueError(msg)


def _fault(name: str, given: Any, expected: Tensor) -> str | None:
    if not isinstance(given, Tensor):
        return f"to be a tensor, got {type(given).__name__}"
    if given.is_floating_point() != expected.is_floating_point():
        return f"to be of {expected.dtype}, got {given.dtype}".replace("torch.", "")
    values = given.double() if given.is_floating_point() else given
    if name.endswith(_MAY_BE_UNKNOWN):
        values = values[~values.isnan()]
    if not values.isfinite().all():
        return f"to be finite, got {int((~values.isfinite()).sum())} of {given.numel()} values that are not"
    if name.endswith("_threshold") and not _within(values, 0, 1).all():
        return f"in [0, 1], got {values.item():g}"
    if name.endswith(("running_var", "_scale.deviation")) and (values < 0).any():
        return f"of at least 0, got {values.min().item():g}"
    if name.endswith("memory.features") and (values.ndim != 3 or not _within(values.norm(dim=-1), 0, 1.01).all()):
        return "to be a memory of features of length 1, shape (sets, patches, width), got others"
    return None


def _within(values: Tensor, low: float, high: float) -> Tensor:
    """Return which values lie in a closed interval; NaN does not."""
    return (values >= low) & (values <= high)
