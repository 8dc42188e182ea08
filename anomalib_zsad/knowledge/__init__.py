"""KAnoCLIP's knowledge base: what anomalous images of a class look like, in words."""

from anomalib_zsad.knowledge.base import KnowledgeBase, load_knowledge

__all__ = ["KnowledgeBase", "load_knowledge"]
