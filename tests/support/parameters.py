"""Parameters of one model in another, so that arguments alone make the difference between them."""

from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def with_parameters_of(base: nn.Module, other: Model) -> Model:
    """Put all of the base's tensors that fit into another model."""
    own, given = other.state_dict(), base.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    other.load_state_dict(fitting, strict=False)
    return other
