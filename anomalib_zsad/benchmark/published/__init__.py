"""Figures of the papers, as data, and ours beside them."""

from anomalib_zsad.benchmark.published.comparison import compare
from anomalib_zsad.benchmark.published.figures import PAPERS, published_figures

__all__ = ["PAPERS", "compare", "published_figures"]
