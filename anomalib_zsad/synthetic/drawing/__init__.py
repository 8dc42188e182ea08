"""Drawn pictures of things, normal or with a defect, with exact masks and captions: data that need no download."""

from anomalib_zsad.synthetic.drawing.captions import caption
from anomalib_zsad.synthetic.drawing.catalogue import CATEGORIES, DEFECTS, SEEN, UNSEEN
from anomalib_zsad.synthetic.drawing.picture import Picture, draw

__all__ = ["CATEGORIES", "DEFECTS", "SEEN", "UNSEEN", "Picture", "caption", "draw"]
