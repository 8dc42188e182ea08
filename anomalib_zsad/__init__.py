"""Zero-shot anomaly detection with CLIP, as ordinary anomalib models.

The shape alphabet used on signature lines of this package: B batch, L tapped layers, R window sizes, N patches
(gh x gw), T = 1 + N tokens (class token first), C vision width, D joint width, P prompts, S states
(normal, anomalous), H W pixels.

Names are resolved on first use, so importing the package is quick and touches no network. The first use of any name
imports them all: that is what makes ``--data VisA`` known to anomalib's command line once
``--model anomalib_zsad.AFClip`` has been read. Where anomalib's models are imported already, so are ours, and
``anomalib.models.list_models()`` lists them.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomalib_zsad._version import __version__
from anomalib_zsad.seam.registration import announce

if TYPE_CHECKING:
    from anomalib_zsad.data import (
        BTAD,
        COVID19,
        CVC300,
        DAGM,
        ISIC,
        KSDD2,
        RSDD,
        SDD,
        TN3K,
        AllCategories,
        Auxiliary,
        BMADSegmentation,
        Br35H,
        BrainMRI,
        ClinicDB,
        ColonDB,
        DTDSynthetic,
        Endo,
        HeadCT,
        ImageFiles,
        Kvasir,
        Listed,
        MagneticTile,
        MVTec,
        VisA,
    )
    from anomalib_zsad.evaluation.detection import Detection
    from anomalib_zsad.models import (
        ACDClip,
        AFClip,
        AnomalyClip,
        ClipZeroShot,
        Ensemble,
        KAnoClip,
        WMoEClip,
    )
    from anomalib_zsad.models.choices import ACDChoices, AFChoices, AnomalyChoices, KAnoChoices, WMoEChoices
    from anomalib_zsad.models.parts.calibrating import calibrate
    from anomalib_zsad.synthetic import Synthetic

__all__ = [
    "BTAD",
    "COVID19",
    "CVC300",
    "DAGM",
    "ISIC",
    "KSDD2",
    "RSDD",
    "SDD",
    "TN3K",
    "ACDChoices",
    "ACDClip",
    "AFChoices",
    "AFClip",
    "AllCategories",
    "AnomalyChoices",
    "AnomalyClip",
    "Auxiliary",
    "BMADSegmentation",
    "Br35H",
    "BrainMRI",
    "ClinicDB",
    "ClipZeroShot",
    "ColonDB",
    "DTDSynthetic",
    "Detection",
    "Endo",
    "Ensemble",
    "HeadCT",
    "ImageFiles",
    "KAnoChoices",
    "KAnoClip",
    "Kvasir",
    "Listed",
    "MVTec",
    "MagneticTile",
    "Synthetic",
    "VisA",
    "WMoEChoices",
    "WMoEClip",
    "__version__",
    "calibrate",
]

_HOMES = (
    "anomalib_zsad.models",
    "anomalib_zsad.models.choices",
    "anomalib_zsad.data",
    "anomalib_zsad.synthetic",
    "anomalib_zsad.evaluation.detection",
    "anomalib_zsad.models.parts.calibrating",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    _load_public_names()
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)


def _load_public_names() -> None:
    for home in map(import_module, _HOMES):
        globals().update({name: getattr(home, name) for name in home.__all__})


announce()
if "anomalib.models" in sys.modules:
    _load_public_names()
