"""Numbers that can be meant: scores where they arise, weights, thresholds and memories where they are loaded."""

from collections.abc import Mapping
from typing import Any

from anomalib.data import InferenceBatch
from torch import Tensor

_ROUNDING = 1e-5
"""How far the rounding of sums and products may bring a score beyond 0 and 1."""
_MAY_BE_UNKNOWN = ("_threshold", "_min", "_max", "_scale.mean", "_scale.deviation")
"""Endings of the names of tensors that are NaN until they are fitted to data."""


def check_scores(
    result: InferenceBatch,
    batch: Any,  # of anomalib, with the paths of its images where they are known
    member: str | None = None,
) -> InferenceBatch:
    """Check that all scores of a batch are in [0, 1], or those of an ensemble's member finite.

    Returns:
        The scores, unchanged.

    Raises:
        ValueError: If one is not; it names the image.
    """
    for name in ("pred_score", "anomaly_map"):
        values = getattr(result, name)
        if values is None:
            continue
        fits = values.isfinite() if member else _within(values, -_ROUNDING, 1 + _ROUNDING)
        if fits.all():
            continue
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
    """Check what is to be loaded: floats where floats belong, finite, and in the range that they have.

    Args:
        tensors: What a file holds, by name.
        expected: What it is to replace; other names are not looked at.
        origin: The file, for messages.

    Raises:
        ValueError: If a tensor cannot be meant; it names the tensor.
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
    """Tell what lies in a closed interval; NaN does not."""
    return (values >= low) & (values <= high)
