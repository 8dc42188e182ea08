"""Drawn pictures: what draws them, a labelled dataset of them, and a demonstration that needs no download."""

from anomalib_zsad.synthetic.datamodule import Synthetic

__all__ = ["Synthetic"]
