"""Arguments of a model without saying which of them are choices."""

from dataclasses import fields
from inspect import signature
from typing import Any


def with_choices(kind: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Put those that are choices into `choices`."""
    default = signature(kind).parameters.get("choices")
    names = set() if default is None else {each.name for each in fields(default.default)}
    chosen = {name: value for name, value in arguments.items() if name in names}
    others = {name: value for name, value in arguments.items() if name not in names}
    return {**others, "choices": {**others.get("choices", {}), **chosen}} if chosen else others
