from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.benchmark.case_files import save_cases
from anomalib_zsad.benchmark.cases import KINDS, Case, in_turn
from anomalib_zsad.benchmark.grid import Cell
from anomalib_zsad.benchmark.pictures import draw_beside, draw_pages
from anomalib_zsad.benchmark.store import CASES
from anomalib_zsad.evaluation.sheet import SIDE

RED, GREEN = (255, 0, 0), (0, 255, 0)
OURS, THEIRS = Cell("ours", "MVTec", None, 2, 0), Cell("their model, plain", "MVTec", "nut", None, 0)


def case(category, number, agreement=0.9, colour=RED, level=0):
    image = np.full((SIDE, SIDE, 3), colour, np.uint8)
    truth, levels = np.zeros((SIDE, SIDE), bool), np.full((SIDE, SIDE), level, np.uint8)
    return Case(category, f"{category}/cut/{number}.png", 0.5, agreement, image, truth, levels)


def finished(folder, cell, cases):
    path = folder / "cells" / cell.name
    save_cases(path / CASES, dict.fromkeys(KINDS, cases))
    return cell, path


def colours(path):
    return set(map(tuple, np.asarray(Image.open(path)).reshape(-1, 3).tolist()))


def test_the_categories_of_one_model_and_target_share_a_page(tmp_path):
    nut = finished(tmp_path, THEIRS, [case("nut", n, 0.5 + 0.01 * n) for n in range(4)])
    pill = finished(tmp_path, Cell("their model, plain", "MVTec", "pill", None, 0), [case("pill", 0, 0.9, GREEN)])
    (page,) = draw_pages(tmp_path, [nut, pill])
    assert page == ("MVTec", "their model, plain, seed 0", Path("pictures/their model, plain/MVTec/seed_0.png"))
    assert {RED, GREEN} <= colours(tmp_path / page[2])


def test_a_page_is_drawn_anew_when_its_cells_are_newer_and_not_otherwise(tmp_path):
    cells = [finished(tmp_path, OURS, [case("nut", 0)])]
    (page,) = (tmp_path / path for *_, path in draw_pages(tmp_path, cells))
    first = page.stat().st_mtime_ns
    draw_pages(tmp_path, cells)
    assert page.stat().st_mtime_ns == first
    finished(tmp_path, OURS, [case("nut", 0, colour=GREEN)])
    draw_pages(tmp_path, cells)
    assert GREEN in colours(page)


def test_detectors_stand_beside_one_another_on_the_same_images(tmp_path):
    cells = [
        finished(tmp_path, OURS, [case("nut", n, level=255) for n in range(6)]),
        finished(tmp_path, Cell("ours", "MVTec", None, 2, 1), [case("nut", 9, colour=GREEN)]),  # another seed
        finished(tmp_path, THEIRS, [case("nut", n, level=0) for n in range(6)]),
    ]
    ((target, path),) = draw_beside(tmp_path, cells)
    assert (target, path) == ("MVTec", Path("pictures/MVTec.png"))
    assert GREEN not in colours(tmp_path / path)
    pixels = np.asarray(Image.open(tmp_path / path))
    hot, cold = (np.abs(pixels.astype(int) - colour).sum(axis=-1) < 6 for colour in ((128, 0, 0), (0, 0, 143)))
    assert hot.sum() == cold.sum() == 6 * SIDE * SIDE
    assert np.flatnonzero(hot.any(axis=0)).max() < np.flatnonzero(cold.any(axis=0)).min()
    assert (hot.any(axis=1) == cold.any(axis=1)).all()


def test_images_that_most_detectors_have_come_first_and_a_missing_map_stays_blank(tmp_path):
    last = in_turn([case("nut", n) for n in range(20)])[-1]
    shared = replace(last, image=np.full_like(last.image, GREEN))
    cells = [
        finished(tmp_path, OURS, [shared, *(case("nut", n) for n in range(20) if case("nut", n).key != last.key)]),
        finished(tmp_path, THEIRS, [replace(shared, levels=np.full_like(last.levels, 255))]),
    ]
    ((_, path),) = draw_beside(tmp_path, cells)
    pixels = np.asarray(Image.open(tmp_path / path)).astype(int)
    green, hot = (np.abs(pixels - colour).sum(axis=-1) < 6 for colour in (GREEN, (128, 0, 0)))
    assert green.sum() == hot.sum() == SIDE * SIDE
    assert len(pixels) > 6 * SIDE


@pytest.mark.parametrize("draw", [draw_pages, draw_beside])
def test_where_no_cases_were_kept_there_is_no_page(tmp_path, draw):
    assert draw(tmp_path, [(OURS, tmp_path), finished(tmp_path, THEIRS, [])]) == []
    assert not list(tmp_path.rglob("*.png"))
