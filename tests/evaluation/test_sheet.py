from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.evaluation.sheet import SIDE, Row, black_and_white, grey_levels, heat_map, save_sheet


def colours(path: Path) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(Image.open(path)).reshape(-1, 3).tolist()))


def test_the_sheet_shows_image_truth_and_map(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (8, 8), (255, 0, 0)), black_and_white(np.zeros((8, 8), bool)), heat_map(np.eye(8))]
    row = Row(pictures, "words")
    save_sheet([("left", [row, row]), ("right", [row])], tmp_path / "sheet.png")
    assert {(255, 0, 0), (0, 0, 0), (0, 0, 143), (128, 0, 0)} <= colours(tmp_path / "sheet.png")


def test_a_column_is_as_wide_as_its_pictures_and_a_row_may_have_none(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    for name, columns in (("one", [Row([picture], "")]), ("two", [Row([picture, picture], ""), Row([], "-")])):
        save_sheet([("title", columns)], tmp_path / f"{name}.png")
    one, two = (Image.open(tmp_path / f"{name}.png").width for name in ("one", "two"))
    assert two - one >= SIDE
    assert two < 3 * SIDE


def test_long_titles_do_not_run_into_the_next_column(tmp_path: Path) -> None:
    pictures = [Row([Image.new("RGB", (8, 8))], "")]
    save_sheet([("a detector with a long name", pictures), ("", pictures)], tmp_path / "sheet.png")
    head = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))[:30]
    assert head[:, :SIDE].min() < 100
    assert head[:, SIDE + 15 :].min() == 255


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((), [0, 255]), ((0.0, 1.0), [51, 102]), ((0.3, 0.4), [0, 255]), ((0.5, 0.5), [0, 0])],
)
def test_levels_go_from_the_lowest_value_to_the_highest(limits: tuple, expected: list[int]) -> None:
    assert grey_levels(np.array([[0.2, 0.4]]), *limits).tolist() == [expected]
