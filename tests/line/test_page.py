import pytest

from anomalib_zsad.line.page import Page
from tests.line.brightness import CALIBRATION, brightness
from tests.line.test_results import row


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path / "index.html", brightness(CALIBRATION), "in")


def written(page, running=True):
    page.write(running=running)
    return page.path.read_text(encoding="utf-8")


def test_it_counts_and_shows_the_last_rows_first(page):
    page.add(row(1, p_value=0.5))
    page.add(row(2, label="anomalous", score=0.9, p_value=0.01, picture="pictures/00000002.jpg"))
    page.add(row(3, score=None, label=None, error="no image"))
    text = written(page)
    for count, what in ((3, "images"), (1, "normal"), (1, "anomalous"), (1, "errors")):
        assert f"<b>{count}</b>{what}" in text
    assert text.index("3.png") < text.index("2.png") < text.index("1.png")
    assert '<img src="pictures/00000002.jpg"' in text
    assert "no image" in text
    assert str(CALIBRATION) in text


def test_a_browser_looks_again_while_it_runs_and_no_longer(page):
    assert 'http-equiv="refresh"' in written(page)
    assert 'http-equiv="refresh"' not in written(page, running=False)


def test_names_from_outside_are_text(page):
    page.add(row(1, image="<script>alert(1)</script>.png"))
    assert "<script>" not in written(page)


def test_it_says_that_the_scene_has_drifted_and_since_when(page):
    assert "No drift" in written(page)
    found = [page.test(0.9) for _ in range(100)]
    assert found[:-1] == [None] * 99
    assert found[-1] < 1e-6
    page.add(row(100, drift=found[-1]))
    text = written(page)
    assert "Drift, found at 2026-11-30 12:00:00: images do not score like those of the calibration" in text
    assert "Windows of 100 images tested: 1," in text


def test_without_a_calibration_there_is_no_guard(tmp_path):
    page = Page(tmp_path / "index.html", brightness(), "in")
    assert page.test(0.9) is None
    page.add(row(1))
    text = written(page)
    assert "not\ncalibrated" in text
    assert "<svg" not in text


def test_p_values_of_another_model_do_not_count(page):
    page.add(row(1, p_value=0.5))
    assert "p-values of the last 0 images" in written(page)
