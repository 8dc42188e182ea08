"""Values of all kinds for every argument of a model, and what comes of them: finite scores, or one message."""

import re
from collections.abc import Callable, Sequence
from inspect import signature
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from hypothesis import strategies as st
from torch.optim import Optimizer

from anomalib_zsad.arguments import Choices, NotEmpty, Odd, Range
from tests.support.contract import batch, images
from tests.support.small_clip import IMAGE_SIZE

WRONG: list[Any] = [
    *(float("nan"), float("inf"), -float("inf"), -1, 0, 2, -0.5, 0.5, 1.5, 1e-30, 1e30, 10**9, True, False, None),
    *("", "x", "nan", b"x", [], {}, (), [-1], [float("nan")], (1, 2, 3), ["x", 1], {"a": 1}, object),
]
_FILES = {"backbone", "pretrained", "weights", "cache_features", "reference", "knowledge", "class_names"}
_SLOW = {"compile"}
"""Tested apart: a graph takes seconds."""
_WORDS = ("good", "a {} thing", "")
_NUMBERS = (0, 1e-3, 0.5, 1, 2, 5)


def arguments_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of all arguments that are no files and not slow, by name."""
    hints = get_type_hints(function, include_extras=True)
    names = [name for name in signature(function).parameters if hints.get(name, Any) is not Any]
    return {name: hints[name] for name in names if name not in _FILES | _SLOW}


def value_for(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type, the ends of its range among them; whole numbers are small, since memory bounds them."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _within(parts[0], parts[1:])
    if kind is Literal:
        return st.sampled_from(parts)
    if kind in {Union, UnionType}:
        return st.one_of(*map(value_for, parts))
    if kind is tuple:
        return st.tuples(*map(value_for, parts))
    if kind is not None and issubclass(kind, Sequence):
        return st.lists(value_for(parts[0]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Choices):
        hints = {name: each for name, each in get_type_hints(hint, include_extras=True).items() if name != "removed"}
        return st.sampled_from(sorted(hints)).flatmap(
            lambda name: st.fixed_dictionaries({name: st.one_of(value_for(hints[name]), st.sampled_from(WRONG))})
        )
    simple = {
        bool: st.booleans(),
        int: st.integers(0, 9),
        float: st.sampled_from(_NUMBERS),
        str: st.sampled_from(_WORDS),
    }
    return simple.get(hint, st.none())


def _within(hint: Any, metadata: Sequence[Any]) -> st.SearchStrategy[Any]:
    limits = next((each for each in metadata if isinstance(each, Range)), None)
    if limits is None:
        values = value_for(hint)
        return values.filter(len) if any(isinstance(each, NotEmpty) for each in metadata) else values
    low, high = (limits.gt if limits.ge is None else limits.ge), (limits.lt if limits.le is None else limits.le)
    if hint is int:
        return st.integers(low, min(high, low + 8)).filter(lambda value: value % 2 or not isinstance(limits, Odd))
    inside = [low * 1.0001 + 1e-9 * (limits.ge is None), high * 0.999, *(x for x in _NUMBERS if low < x < high)]
    ends = [end for end in (limits.ge, limits.le) if end is not None]
    return st.sampled_from([*inside, *ends])


def come_to(build: Callable[..., Any], given: dict[str, Any]) -> str:
    """Build a model, take a training step and score: "scores" where all is finite, "message" where it is refused.

    Raises:
        AssertionError: If neither holds.
    """
    try:
        model = build(**{"image_size": IMAGE_SIZE, **given})
    except ValueError as error:
        told = str(error)
        assert "\n" not in told
        assert re.search(r"\b(must|needs?|expected)\b.*\bgot\b", told), told
        choices = given.get("choices")
        assert any(name in told for name in [*given, *(choices if isinstance(choices, dict) else ())]), told
        return "message"
    _step(model)
    with torch.no_grad():
        result = model.eval().model(images())
    for values in (result.pred_score, result.anomaly_map):
        assert ((values >= 0) & (values <= 1 + 1e-5)).all(), values
    return "scores"


def _step(model: Any) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return
    optimizers = (
        model.configure_optimizers() if model.hparams.get("choices", {}).get("lr_schedule") != "cosine" else None
    )
    optimizer = optimizers["optimizer"] if isinstance(optimizers, dict) else optimizers
    model.train()
    loss = model.loss_terms(batch())["loss"]
    assert loss.isfinite(), loss
    if loss.requires_grad:
        loss.backward()
    if isinstance(optimizer, Optimizer):
        optimizer.step()
