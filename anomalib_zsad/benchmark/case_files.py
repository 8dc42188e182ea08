"""Kept cases as a file, and as the columns of a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.benchmark.cases import KINDS, Case, Shown
from anomalib_zsad.evaluation.sheet import Row, black_and_white, coloured


def save_cases(path: Path, shown: Shown) -> None:
    """Write cases, each once, to a compressed file: at most 100 kB a case.

    Args:
        path: The file, `*.npz`.
        shown: The cases.
    """
    cases = list({case.key: case for each in shown.values() for case in each}.values())
    numbers = {case.key: number for number, case in enumerate(cases)}
    about = {
        "cases": [[case.category, case.name, case.score, case.agreement] for case in cases],
        "kinds": {kind: [numbers[case.key] for case in each] for kind, each in shown.items()},
    }
    pixels: dict[str, Any] = {
        name: np.array([getattr(case, name) for case in cases]) for name in ("image", "truth", "levels")
    }
    # To a stream: numpy ends every name in .npz.
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, about=np.array(json.dumps(about)), **pixels)


def read_cases(path: Path) -> Shown:
    """Read what `save_cases` wrote."""
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        pixels = [file[name] for name in ("image", "truth", "levels")]
    cases = [Case(*words, *arrays) for words, *arrays in zip(about["cases"], *pixels, strict=True)]
    return {kind: [cases[number] for number in about["kinds"].get(kind, ())] for kind in KINDS}


def case_columns(shown: Shown) -> list[tuple[str, list[Row]]]:
    """Lay out the page of one detector: a column for the best, the worst and the false alarms, as far as there are."""
    columns = []
    for kind, what in (
        ("best", "Best: image, ground truth, map"),
        ("worst", "Worst: image, ground truth, map"),
        ("false alarms", "False alarms: image, map"),
    ):
        rows = [row_of_case(case, truth=kind != "false alarms") for case in shown[kind]]
        columns += [(what, rows)] if rows else []
    return columns


def row_of_case(case: Case, truth: bool = True) -> Row:
    """Return the row of one case: image, ground truth on request, map."""
    masks = [black_and_white(case.truth)] if truth else []
    folder = Path(case.name).parent.name
    return Row(
        [Image.fromarray(case.image), *masks, coloured(case.levels)], f"{case.category}, {folder}: {figures(case)}"
    )


def figures(case: Case) -> str:
    """Format the score of an image, and the AUROC of its pixels where it is known."""
    pixels = "" if case.agreement is None else f", pixels {case.agreement:.2f}"
    return f"score {case.score:.2f}{pixels}"
