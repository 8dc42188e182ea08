"""Our figures beside those of a paper."""

import pandas as pd

from anomalib_zsad.benchmark.published.figures import published_figures
from anomalib_zsad.data.names import dataset_name

_KEYS = ("model", "setting", "dataset", "metric")
_VARIANT = "variant"


def compare(
    ours: pd.DataFrame,
    paper: str,
) -> pd.DataFrame:
    """Put the figures of a paper beside ours.

    What several tables of the paper repeat counts once, as the first of them prints it.

    Args:
        ours: A row a figure, already averaged over categories and seeds: `model` (the class), `setting` ("0-shot",
            "4-shot"), `dataset` (any of its names), `metric`, and `value` as a fraction, as the evaluator gives it.
            With a column `variant` a row stands beside that variant alone ("N=4", or a step of an ablation), else
            beside each that the paper prints outside its ablations.
        paper: One of `PAPERS`.

    Returns:
        Every row of ours, in its order: `ours`, `published`, `deviation` and `difference` (ours - published), all in
        percent, and the paper's `method`, `variant` and `table`. nan where the paper prints no such figure.

    Raises:
        ValueError: A column is missing, a value is no fraction, or a figure occurs twice.
    """
    keys = [*_KEYS, _VARIANT] if _VARIANT in ours else list(_KEYS)
    _check(ours, keys)
    figures = published_figures(paper)
    implemented = (figures["model"] != "") & (~figures["ablation"] | (_VARIANT in ours))
    figures = figures[implemented].drop_duplicates([*_KEYS, _VARIANT])
    figures = figures[[*_KEYS, "method", _VARIANT, "table", "value", "deviation"]].rename(
        columns={"value": "published"}
    )
    named = ours[keys].assign(
        ours=100 * ours["value"], called=ours["dataset"], dataset=ours["dataset"].map(dataset_name)
    )
    beside = named.merge(figures, on=keys, how="left")
    beside["dataset"] = beside["called"]
    beside["table"] = beside["table"].astype("Int64")
    beside["difference"] = beside["ours"] - beside["published"]
    return beside[[*_KEYS, "method", _VARIANT, "table", "ours", "published", "deviation", "difference"]]


def _check(ours: pd.DataFrame, keys: list[str]) -> None:
    if missing := [name for name in (*_KEYS, "value") if name not in ours]:
        msg = f"Expected the columns {', '.join((*_KEYS, 'value'))}, got none called {', '.join(missing)}."
        raise ValueError(msg)
    if (outside := ours["value"][(ours["value"] < 0) | (ours["value"] > 1)]).size:
        msg = f"Expected fractions from 0 to 1 as values, got {outside.iloc[0]:g}."
        raise ValueError(msg)
    if (twice := ours[ours.duplicated(keys)]).size:
        msg = f"Expected one row for each figure, got more for {', '.join(map(str, twice[keys].iloc[0]))}."
        raise ValueError(msg)
