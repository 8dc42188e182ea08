"""anomalib's `Tabular` and `MVTecLOCO` with pandas 3.

Both put paths and lists into columns that pandas 3 takes for text, and end in a TypeError. anomalib builds their tables
itself, before any hook of a model or of a trainer, so its two functions are repaired where they are.
"""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import pandas as pd
from anomalib.data.datasets.image import mvtec_loco, tabular

_OPTION = "future.infer_string"


def repair_tables() -> None:
    """Make both functions build columns of objects, as they do with pandas 2."""
    if int(pd.__version__.split(".")[0]) < 3:
        return
    for module, name in ((tabular, "make_tabular_dataset"), (mvtec_loco, "make_dataset")):
        setattr(module, name, _with_objects(getattr(module, name)))


def _with_objects(make: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    @wraps(make)
    def made(*arguments: Any, **options: Any) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", f".*{_OPTION}")  # pandas 3 announces its end in pandas 4
            with pd.option_context(_OPTION, False):
                return make(*map(_as_objects, arguments), **{name: _as_objects(each) for name, each in options.items()})

    return made


def _as_objects(value: Any) -> Any:
    return value.astype(dict.fromkeys(_texts(value), object)) if isinstance(value, pd.DataFrame) else value


def _texts(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if isinstance(table[name].dtype, pd.StringDtype)]
