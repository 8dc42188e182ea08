"""What anomalib's models keep to themselves: whether they are fitted; and a repair of its WinCLIP."""

from typing import Any

from anomalib.models import AnomalibModule
from torch import Tensor, nn


def is_fitted(model: AnomalibModule) -> bool | None:
    """Whether a model with a memory is fitted; None: not known, as of models that learn by gradients."""
    fitted = getattr(model, "_is_fitted", None)
    return None if fitted is None else bool(fitted)


def attend_within_windows(winclip: Any) -> None:
    """Let every window of an image attend to its own patches again, in place.

    anomalib's WinCLIP puts the patches of a window first and the windows second, as open_clip before 2.26.1 expected
    them. Since then its transformer takes windows first: the class tokens of all windows would attend to one another
    and to no patch, so that all windows of all images had the same embedding (docs/upstream/winclip-windows.md).

    Args:
        winclip: The torch model; unchanged where its transformer takes tokens first (open_clip before 2.26.1).
    """
    transformer, embed = winclip.clip.visual.transformer, winclip._get_window_embeddings
    if not getattr(transformer, "batch_first", False):
        return

    def repaired(*arguments: Tensor) -> Tensor:
        hooks = (transformer.register_forward_pre_hook(_swap), transformer.register_forward_hook(_swap_back))
        try:
            return embed(*arguments)
        finally:
            for hook in hooks:
                hook.remove()

    winclip._get_window_embeddings = repaired


def _swap(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given[0].transpose(0, 1), *given[1:])


def _swap_back(_: nn.Module, __: Any, tokens: Tensor) -> Tensor:
    return tokens.transpose(0, 1)
