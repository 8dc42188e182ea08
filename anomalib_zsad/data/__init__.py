"""Datamodules: labelled datasets to train on, and every category of a dataset to test on."""

from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.magnetic_tile import MagneticTile
from anomalib_zsad.data.mvtec import MVTec
from anomalib_zsad.data.synthetic import Synthetic
from anomalib_zsad.data.visa import VisA

__all__ = ["AllCategories", "Auxiliary", "MVTec", "MagneticTile", "Synthetic", "VisA"]
