"""Layouts of published datasets on the disk: each reads labelled samples from a folder."""

from anomalib_zsad.data.layouts.bmad import BMADFolders
from anomalib_zsad.data.layouts.image_mask_folders import ImageMaskFolders
from anomalib_zsad.data.layouts.label_from_mask import MaskBeside, MaskIfDefective, PosNeg
from anomalib_zsad.data.layouts.listing import Layout
from anomalib_zsad.data.layouts.state_folders import StateFolders
from anomalib_zsad.data.layouts.tiles import CommutatorTiles, RailTiles
from anomalib_zsad.data.layouts.two_folders import LabelsCsv, TwoFolders

__all__ = [
    "BMADFolders",
    "CommutatorTiles",
    "ImageMaskFolders",
    "LabelsCsv",
    "Layout",
    "MaskBeside",
    "MaskIfDefective",
    "PosNeg",
    "RailTiles",
    "StateFolders",
    "TwoFolders",
]
