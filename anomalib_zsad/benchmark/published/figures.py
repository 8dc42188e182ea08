"""The papers' result tables, transcribed cell by cell into one YAML for each paper."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from anomalib_zsad.data.names import dataset_name

_FOLDER = Path(__file__).parent
PAPERS = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))

MODELS = {
    "AF-CLIP": "AFClip",
    "AF-CLIP+": "AFClip",
    "ACD-CLIP": "ACDClip",
    "WMoE-CLIP": "WMoEClip",
    "KAnoCLIP": "KAnoClip",
    "AnomalyCLIP": "AnomalyClip",
    "CLIP": "ClipZeroShot",
    "CLIP-AC": "ClipZeroShot",
    "WinCLIP": "WinClip",
    "WinCLIP+": "WinClip",
    "PatchCore": "Patchcore",
}
"""The class, of this package or of anomalib, that implements a printed method."""

_PROMPTS = {"CLIP": "CLIP", "CLIP-AC": "CLIP-AC"}
"""Methods of one class that differ in their arguments alone: variants of it."""

METRICS = {
    "image-level AUROC": "image_AUROC",
    "image-level AP": "image_AP",
    "image-level F1-Max": "image_F1Max",
    "pixel-level AUROC": "pixel_AUROC",
    "pixel-level AP": "pixel_AP",
    "pixel-level PRO": "pixel_AUPRO_200",
    "I-AUROC": "image_AUROC",
    "I-AP": "image_AP",
    "P-AUROC": "pixel_AUROC",
    "P-PRO": "pixel_AUPRO_200",
    "Image AUROC": "image_AUROC",
    "Pixel AUROC": "pixel_AUROC",
    "Image-Level AUROC": "image_AUROC",
    "Pixel-Level AUROC": "pixel_AUROC",
    "I": "image_AUROC",
    "P": "pixel_AUROC",
    "I-AUC": "image_AUROC",
    "P-AUC": "pixel_AUROC",
    "Image-AUC": "image_AUROC",
    "Pixel-AUC": "pixel_AUROC",
}
"""The package's name of a printed metric.

PRO is AUPRO up to a false positive rate of 0.3 over 200 thresholds: AF-CLIP's code computes it so, and WMoE-CLIP, whose
code is not public, is taken to do the same. The exact `pixel_AUPRO` therefore has no published counterpart.
"""

COLUMNS = (
    "paper",
    "table",
    "method",
    "model",
    "variant",
    "ablation",
    "setting",
    "dataset",
    "metric",
    "printed_metric",
    "value",
    "deviation",
)


def published_figures(paper: str | None = None) -> pd.DataFrame:
    """Return the published figures, one row each.

    `method`, `setting` and `printed_metric` are the paper's words; `dataset` and `metric` are the package's, and
    `model` is the class that implements the method, empty where there is none. `variant` distinguishes the rows of one
    method (the number of groups, the steps of an ablation), and `ablation` says that the table is one.

    Args:
        paper: One of `PAPERS`; all of them where it is not given.

    Returns:
        The figures in the papers' order; values and deviations in percent, nan where no deviation is printed.

    Raises:
        ValueError: There is no such paper.
    """
    if paper is not None and paper not in PAPERS:
        msg = f"Expected a paper of {', '.join(PAPERS)}, got {paper}."
        raise ValueError(msg)
    papers = PAPERS if paper is None else (paper,)
    return pd.DataFrame([row for name in papers for row in _rows(name)], columns=list(COLUMNS))


@lru_cache
def _rows(paper: str) -> tuple[dict[str, Any], ...]:
    content = yaml.safe_load((_FOLDER / f"{paper}.yaml").read_text(encoding="utf-8"))
    others = content.get("datasets", {})  # what the paper calls as this package calls another
    return tuple(
        {"paper": paper, **row, "dataset": dataset_name(others.get(row["dataset"], row["dataset"]))}
        for table in content["tables"]
        for row in _figures(table)
    )


def _figures(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    fixed = {"table": table["table"], "setting": table["setting"], "ablation": table.get("ablation", False)}
    for dataset, cells in table["figures"].items():
        for key, cell in cells.items():
            method, variant = (table["variants_of"], key) if "variants_of" in table else (key, _PROMPTS.get(key, ""))
            names = {"method": method, "model": MODELS.get(method, ""), "variant": variant, "dataset": dataset}
            for metric, figure in zip(table["metrics"], cell.split(), strict=True):
                if figure != "-":
                    yield fixed | names | {"metric": METRICS[metric], "printed_metric": metric} | _number(figure)


def _number(figure: str) -> dict[str, float]:
    value, _, deviation = figure.partition("±")
    return {"value": float(value), "deviation": float(deviation or "nan")}
