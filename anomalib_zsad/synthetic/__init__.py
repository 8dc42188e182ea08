"""Drawn pictures: the drawing code, a labelled dataset, and a demonstration; no download is needed."""

from anomalib_zsad.synthetic.datamodule import Synthetic

__all__ = ["Synthetic"]
