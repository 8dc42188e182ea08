"""What parameters are before training: each law checks a tensor, given its fan_in and the model."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Law = Callable[[Tensor, int, Any], None]


def constant(value: float) -> Law:
    def check(values: Tensor, fan_in: int, model: Any) -> None:
        torch.testing.assert_close(values, torch.full_like(values, value), atol=0, rtol=0)

    return check


def normal(std: float) -> Law:
    def check(values: Tensor, fan_in: int, model: Any) -> None:
        _check_moments(values, std)

    return check


def uniform(bound: float) -> Law:
    def check(values: Tensor, fan_in: int, model: Any) -> None:
        _check_moments(values, bound / math.sqrt(3))
        assert (1 - 12 / values.numel()) * bound <= values.abs().max() <= bound

    return check


def torchs_own(values: Tensor, fan_in: int, model: Any) -> None:
    """Weights and biases of torch's linear maps and convolutions: uniform up to 1 / sqrt(fan_in)."""
    uniform(fan_in**-0.5)(values, fan_in, model)


def kaiming(values: Tensor, fan_in: int, model: Any) -> None:
    """Kaiming-uniform with a = 0."""
    uniform(math.sqrt(6 / fan_in))(values, fan_in, model)


def clips_projection(values: Tensor, fan_in: int, model: Any) -> None:
    assert torch.equal(values, model.model.encoder.clip.projection.T)


NORMS: dict[str, Law] = {r"(.*\.)?norms?(\.\d+)?\.weight": constant(1), r"(.*\.)?norms?(\.\d+)?\.bias": constant(0)}
"""Layer norms, for any table."""


def check_initial_values(model: Any, table: Mapping[str, Law]) -> None:
    """Check every trainable parameter by the one law whose pattern fits its name."""
    parameters = {name[6:]: p.detach() for name, p in model.named_parameters() if p.requires_grad}  # without "model."
    for name, values in parameters.items():
        laws = [law for pattern, law in table.items() if re.fullmatch(pattern, name)]
        assert len(laws) == 1, f"{len(laws)} laws of the table fit {name}"
        weight = parameters.get(re.sub(r"bias$", "weight", name), values)
        try:
            laws[0](values, weight[0].numel(), model)
        except AssertionError as error:
            msg = f"{name}: {error}"
            raise AssertionError(msg) from error
    unused = [pattern for pattern in table if not any(re.fullmatch(pattern, name) for name in parameters)]
    assert set(unused) <= NORMS.keys()


def _check_moments(values: Tensor, std: float) -> None:
    """Compare mean and deviation, with a margin of 4.5 standard errors."""
    error = 4.5 / math.sqrt(values.numel())
    assert values.mean().abs() < error * std, f"mean {values.mean():.4g} of {std:.4g}"
    assert abs(values.square().mean().sqrt() / std - 1) < error, f"deviation {values.std():.4g}, not {std:.4g}"
