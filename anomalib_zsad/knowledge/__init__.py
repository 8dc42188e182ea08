"""KAnoCLIP's knowledge base: what anomalous images of a class look like, in words.

Names are resolved on first use, so that a command that needs none of them starts quickly.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib_zsad.knowledge.base import KnowledgeBase, load_knowledge

__all__ = ["KnowledgeBase", "load_knowledge"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from anomalib_zsad.knowledge import base

    return getattr(base, name)
