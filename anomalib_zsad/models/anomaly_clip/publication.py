"""The checkpoints that the authors of AnomalyCLIP published: the last epoch of each training."""

from pathlib import Path

from torch import Tensor

from anomalib_zsad.models.anomaly_clip.released import read_released
from anomalib_zsad.models.parts.publication import Publication


def _published(name: str, dataset: str, path: str, blob: str) -> Publication:
    return Publication(
        method="AnomalyClip",
        folder=f"anomaly_clip/{name}",  # the authors' files are of one name
        repository="zqhang/AnomalyCLIP",
        commit="45ed4dd35c05797d854294b5e8d585c545920089",
        blobs={path: blob},
        read=_tensors,
        dataset=dataset,
        licence="MIT",
    )


def _tensors(checkpoint: Path) -> dict[str, Tensor]:
    return read_released(checkpoint).tensors


# The authors' folders name the dataset that was tested, not the one that was trained on.
PUBLICATIONS = {
    "released/anomalyclip-visa": _published(
        "visa",
        "VisA",
        "checkpoints/9_12_4_multiscale/epoch_15.pth",
        "c90f1d9d92d158b436a8fc193f984d4cec8b1fc8",
    ),
    "released/anomalyclip-mvtec": _published(
        "mvtec",
        "MVTec",
        "checkpoints/9_12_4_multiscale_visa/epoch_15.pth",
        "72adc786e031b49ea288ba5f815f0d38cf158708",
    ),
}
"""By the name for `weights=`."""
