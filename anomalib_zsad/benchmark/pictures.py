"""Pages of pictures: the best and worst cases of each detector, and the detectors beside one another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from anomalib_zsad.benchmark.case_files import case_columns, figures, read_cases
from anomalib_zsad.benchmark.cases import BY_CHANCE, KINDS, Case, Shown, in_turn, ranked
from anomalib_zsad.benchmark.grid import Cell
from anomalib_zsad.benchmark.plots import row_name
from anomalib_zsad.benchmark.store import CASES
from anomalib_zsad.evaluation.extra import extra
from anomalib_zsad.evaluation.sheet import Row, black_and_white, coloured, save_sheet
from anomalib_zsad.paths import path_component

FOLDER = "pictures"

Finished = Sequence[tuple[Cell, Path]]
"""Cells that have a result, and their folders."""

_ROWS = 4


def draw_pages(folder: Path, finished: Finished) -> list[tuple[str, str, Path]]:
    """Draw a page for each model, target, number of references and seed, unless the one that is there is up to date.

    Args:
        folder: The benchmark's folder; pages go to `pictures` in it.
        finished: Cells with results; those of the categories of one target make one page.

    Returns:
        Of every page its target, its name, and its path in the folder.
    """
    pages = []
    for cell, files in _by_page(finished).items():
        path = Path(FOLDER, f"{cell.name}.png")
        newest = max(file.stat().st_mtime_ns for file in files)
        if not (folder / path).is_file() or (folder / path).stat().st_mtime_ns < newest:
            with extra(cell.name):
                columns = case_columns(_merged(files))
                if columns:
                    save_sheet(columns, folder / path)
        if (folder / path).is_file():
            pages.append((cell.target, f"{row_name(cell.model, cell.shots)}, seed {cell.seed}", path))
    return pages


def draw_beside(folder: Path, finished: Finished) -> list[tuple[str, Path]]:
    """Draw a page for each target: a column for each detector, of its first seed; the same images for all of them.

    The images are chosen by their names, one of each category first.

    Args:
        folder: As for `draw_pages`.
        finished: As for `draw_pages`.

    Returns:
        Of every page its target, and its path in the folder.
    """
    pages = []
    by_page = _by_page(finished)
    for target in dict.fromkeys(cell.target for cell in by_page):
        detectors: dict[str, dict[str, Case]] = {}
        for cell, files in by_page.items():
            name = row_name(cell.model, cell.shots)
            if cell.target == target and name not in detectors:
                with extra(cell.name):
                    detectors[name] = {case.key: case for case in _merged(files)["by chance"]}
        # Those that most detectors have: one whose category has failed must not take the row of the others.
        union = in_turn({key: case for own in detectors.values() for key, case in own.items()}.values())
        images = sorted(union, key=lambda case: -sum(case.key in own for own in detectors.values()))[:BY_CHANCE]
        if images:
            path = Path(FOLDER, f"{path_component(target)}.png")
            with extra(target):
                save_sheet(_columns(in_turn(images), detectors), folder / path)
                pages.append((target, path))
    return pages


def _by_page(finished: Finished) -> dict[Cell, list[Path]]:
    pages: dict[Cell, list[Path]] = {}
    for cell, folder in finished:
        if (folder / CASES).is_file():
            pages.setdefault(replace(cell, category=None), []).append(folder / CASES)
    return pages


def _merged(files: Sequence[Path]) -> Shown:
    parts = [read_cases(file) for file in files]
    merged = {kind: [case for part in parts for case in part[kind]] for kind in KINDS}
    for kind in KINDS[:-1]:
        merged[kind] = ranked(kind, merged[kind])[:_ROWS]
    return merged


def _columns(images: Sequence[Case], detectors: dict[str, dict[str, Case]]) -> list[tuple[str, list[Row]]]:
    first = [
        Row(
            [Image.fromarray(case.image), black_and_white(case.truth)],
            f"{case.category}, {Path(case.name).parent.name}",
        )
        for case in images
    ]
    columns = [("Image, ground truth", first)]
    for name, own in detectors.items():
        found = [own.get(case.key) for case in images]
        columns.append(
            (name, [Row([coloured(case.levels)], figures(case)) if case else Row([], "-") for case in found])
        )
    return columns
