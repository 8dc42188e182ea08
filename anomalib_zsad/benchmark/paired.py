"""Paired comparison of detectors over categories: Wilcoxon's signed-rank test."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import permutation_test, rankdata

from anomalib_zsad.benchmark.plots import row_name

ALL = "all targets"
COLUMNS = ("target", "metric", "detector", "other", "categories", "difference", "p", "p_holm")


def paired_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Test every pair of detectors by the differences of a metric over the categories that both have.

    A category counts once, with its mean over seeds: seeds test the same images, so they are no further cases. The
    test is two-sided and exact up to 13 categories, ties included; beyond that 9999 signs are drawn. With five
    categories no p is below 0.06. Several pairs are corrected for by Holm's method, within a target and metric.

    Args:
        rows: Tidy results (`store.COLUMNS`).

    Returns:
        A row for each target and metric, and for `ALL` of them together where there are several, and each pair:
        `difference` is the mean of the detector's values less the other's, `p` that of the test, `p_holm` corrected.
    """
    named = rows.assign(
        detector=[row_name(*pair) for pair in zip(rows["model"], rows["shots"], strict=True)],
        case=rows["target"].astype(str) + "/" + rows["category"].astype(str),
    )
    several = [(ALL, named)] if named["target"].nunique() > 1 else []
    found = [
        result
        for target, part in [*named.groupby("target", sort=False), *several]
        for metric, values in part.groupby("metric", sort=False)
        for result in _pairs(str(target), str(metric), values)
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _pairs(target: str, metric: str, values: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    table = values.pivot_table(index="case", columns="detector", values="value", sort=False)  # the mean over seeds
    tested = []
    for one, other in combinations(table.columns, 2):
        difference = (table[one] - table[other]).dropna()
        if len(difference) > 1:
            p = signed_rank_test(difference.to_numpy())
            tested.append((target, metric, one, other, len(difference), difference.mean(), p))
    corrected = holm(np.array([result[-1] for result in tested]))
    yield from ((*result, p) for result, p in zip(tested, corrected, strict=True))


def signed_rank_test(
    difference: NDArray[np.float64],  # (C,)
) -> float:
    """Return the two-sided p of Wilcoxon's test; `scipy.stats.wilcoxon` gives the same, in seconds where ranks tie."""

    def signed_ranks(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return (np.sign(values) * rankdata(np.abs(values), axis=axis)).sum(axis=axis)

    cases = (difference.round(12),)  # what differs by rounding alone is equal
    found = permutation_test(cases, signed_ranks, permutation_type="samples", vectorized=True, random_state=0)
    return float(found.pvalue)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:  # (T,) -> (T,)
    """Correct the p-values of T tests so that the chance of any false finding is bounded (Holm, 1979)."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1)
    return corrected
