"""Which datasets are medical; all others count as industrial."""

from typing import Literal

from anomalib.data import AnomalibDataModule

from anomalib_zsad.data.categories import dataset_key, dataset_keys

Domain = Literal["industrial", "medical"]

MEDICAL = frozenset(
    {
        "bmad",
        "brainmri",
        "br35h",
        "headct",
        "covid19",
        "isic",
        "isic2016",
        "colondb",
        "cvccolondb",
        "clinicdb",
        "cvcclinicdb",
        "cvc300",
        "kvasir",
        "kvasirseg",
        "endo",
        "endotect",
        "tn3k",
    },
)
"""Keys of the medical datasets, as `dataset_key` gives them."""


def domain_of(datamodule: AnomalibDataModule | str | None) -> Domain:
    """Tell the domain of the dataset that a datamodule tests on; industrial where nothing is known."""
    if datamodule is None:
        return "industrial"
    keys = {dataset_key(datamodule)} if isinstance(datamodule, str) else dataset_keys(datamodule)
    return "medical" if keys <= MEDICAL else "industrial"
