"""Hold out a share of samples, stratified by category and label."""

import zlib

import numpy as np
import pandas as pd

from anomalib_zsad.arguments import ShareBelowOne, checked


@checked
def hold_out(
    samples: pd.DataFrame,
    ratio: ShareBelowOne,
    seed: int,
) -> np.ndarray:  # (len(samples),) bool
    """Choose a share of every category's normal and anomalous samples.

    The choice depends on the samples' paths and the seed alone, not on the order of the rows or on other categories.
    Samples of one `group` (near-duplicates) stay together. With at least two samples, or groups, of a category and
    label, each side has one; a single one is not held out.

    Args:
        samples: Rows with `image_path`, `category`, `label_index` and, where known, `group`.
        ratio: The share to hold out, from 0 (nothing) to below 1.
        seed: Seed of the choice.

    Returns:
        A mask of the held-out rows.
    """
    if ratio == 0 or samples.empty:
        return np.zeros(len(samples), dtype=bool)
    unit = _units(samples)
    # A group with both labels counts as anomalous as a whole.
    units = samples.assign(unit=unit).groupby(["category", "unit"])["label_index"].agg(label="max", size="size")
    held = [
        name
        for (category, label), stratum in units.reset_index().groupby(["category", "label"])
        for name in _chosen(stratum, ratio, [seed, zlib.crc32(f"{category}/{label}".encode())])
    ]
    return unit.isin(held).to_numpy()


def _units(samples: pd.DataFrame) -> pd.Series:
    if "group" not in samples:
        return samples["image_path"]
    own_group = samples["category"] + "/" + samples["group"]
    return own_group.where(samples["group"].notna(), samples["image_path"])


def _chosen(stratum: pd.DataFrame, ratio: float, seed: list[int]) -> list[str]:
    shuffled = stratum.sort_values("unit").sample(frac=1, random_state=np.random.default_rng(seed))
    filled = shuffled["size"].cumsum().to_numpy()
    count = int(np.abs(filled - ratio * filled[-1]).argmin()) + 1
    return shuffled["unit"].head(min(max(count, 1), len(shuffled) - 1)).tolist()
