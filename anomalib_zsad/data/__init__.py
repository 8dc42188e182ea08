"""Datamodules: labelled datasets to train on, and every category of a dataset to test on.

Names are resolved on first use, all of them at once: names of datasets and classes are looked up without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from anomalib_zsad.data.visa import VisA

__all__ = ["AllCategories", "Auxiliary", "ImageFiles", "MVTec", "MagneticTile", "VisA"]
__all__ += ["BTAD", "DAGM", "KSDD2", "RSDD", "SDD", "DTDSynthetic", "Listed"]
__all__ += ["COVID19", "CVC300", "ISIC", "BMADSegmentation", "Br35H", "BrainMRI", "ClinicDB", "ColonDB", "Endo"]
__all__ += ["TN3K", "HeadCT", "Kvasir"]

_HOMES = (
    "adopting",
    "all_categories",
    "auxiliary",
    "industrial",
    "listed",
    "magnetic_tile",
    "medical",
    "mvtec",
    "visa",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    for home in _HOMES:
        public = vars(import_module(f"{__name__}.{home}"))
        globals().update({each: public[each] for each in __all__ if each in public})
    return globals()[name]
