"""Datamodules: labelled datasets to train on, and every category of a dataset to test on."""

from anomalib_zsad.data.adopting import ImageFiles
from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.industrial import BTAD, DAGM, KSDD2, RSDD, SDD, DTDSynthetic
from anomalib_zsad.data.listed import Listed
from anomalib_zsad.data.magnetic_tile import MagneticTile
from anomalib_zsad.data.medical import (
    COVID19,
    CVC300,
    ISIC,
    TN3K,
    BMADSegmentation,
    Br35H,
    BrainMRI,
    ClinicDB,
    ColonDB,
    Endo,
    HeadCT,
    Kvasir,
)
from anomalib_zsad.data.mvtec import MVTec
from anomalib_zsad.data.object_strings import repair_anomalib
from anomalib_zsad.data.visa import VisA

repair_anomalib()

__all__ = ["AllCategories", "Auxiliary", "ImageFiles", "MVTec", "MagneticTile", "VisA"]
__all__ += ["BTAD", "DAGM", "KSDD2", "RSDD", "SDD", "DTDSynthetic", "Listed"]
__all__ += ["COVID19", "CVC300", "ISIC", "BMADSegmentation", "Br35H", "BrainMRI", "ClinicDB", "ColonDB", "Endo"]
__all__ += ["TN3K", "HeadCT", "Kvasir"]
