import json
import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from anomalib_zsad.line import watching
from anomalib_zsad.line.arrivals import Arrival, read_ahead
from anomalib_zsad.line.watching import watch
from tests.line.brightness import CALIBRATION, brightness


class Greys:
    """A source of grey images, whose levels are given; None is a damaged one."""

    name, keeps_all = "greys", True

    def __init__(self, levels, pause=0.0):
        self.levels, self.pause, self.done = levels, pause, set()

    def skip(self, image, identity):
        self.done.add((image, *identity))

    def arrivals(self, stop):
        for number, level in enumerate(self.levels):
            if ("grey", number) in self.done:
                continue
            if stop.wait(self.pause):
                return
            pixels = None if level is None else torch.full((3, 8, 8), level)
            yield Arrival("grey", [number], pixels, "it is damaged" if level is None else None)


def rows(out: Path):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_every_image_has_a_row_whatever_is_wrong_with_it(tmp_path, caplog):
    assert watch(brightness(CALIBRATION, spoilt=[0.7]), Greys([0.2, None, 0.7, 0.9]), tmp_path) == 4
    found = rows(tmp_path)
    assert [row["number"] for row in found] == [1, 2, 3, 4]
    assert [row["label"] for row in found] == ["normal", None, None, "anomalous"]
    assert [row["error"] for row in found] == [None, "it is damaged", "out of memory", None]
    assert found[3]["p_value"] == pytest.approx(0.01)
    assert "grey: no score: out of memory" in caplog.text
    assert "<b>4</b>images" in (tmp_path / "index.html").read_text()
    assert not (tmp_path / "pictures").exists()


def test_a_run_goes_on_where_the_one_before_ended(tmp_path):
    watch(brightness(), Greys([0.2, 0.3]), tmp_path)
    assert watch(brightness(), Greys([0.2, 0.3, 0.4, 0.5]), tmp_path) == 2
    assert [row["identity"] for row in rows(tmp_path)] == [[0], [1], [2], [3]]
    assert watch(brightness(), Greys([0.2, 0.3, 0.4, 0.5]), tmp_path) == 0
    assert "<b>4</b>images" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(("pictures", "drawn"), [("all", [1, 3]), ("anomalous", [3])])
def test_pictures_have_names_of_ours(tmp_path, pictures, drawn):
    watch(brightness(CALIBRATION), Greys([0.2, None, 0.9]), tmp_path, pictures)
    assert [row["number"] for row in rows(tmp_path) if row["picture"]] == drawn
    assert sorted(tmp_path.glob("**/*.jpg")) == [tmp_path / "pictures" / f"{number:08d}.jpg" for number in drawn]


def test_a_picture_that_cannot_be_drawn_costs_no_row(tmp_path, caplog):
    (tmp_path / "pictures").touch()
    watch(brightness(), Greys([0.9]), tmp_path, "all")
    assert rows(tmp_path)[0]["score"] == pytest.approx(0.9)
    assert "No picture of grey" in caplog.text


def test_the_guard_remembers_what_came_before_a_restart(tmp_path, caplog):
    watch(brightness(CALIBRATION), Greys([0.9] * 60), tmp_path)
    assert "do not score like" not in caplog.text
    watch(brightness(CALIBRATION), Greys([0.9] * 110), tmp_path)
    assert [row["number"] for row in rows(tmp_path) if row["drift"] is not None] == [100]
    assert "do not score like the calibration" in caplog.text
    assert "Drift, found at" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_image_at_hand(tmp_path, kind):
    before = signal.getsignal(kind)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), kind))
    timer.start()
    done = watch(brightness(), Greys([0.2] * 10_000, pause=0.01), tmp_path)
    assert 0 < done < 10_000
    assert len(rows(tmp_path)) == done
    assert ": ended</h1>" in (tmp_path / "index.html").read_text()
    assert signal.getsignal(kind) == before


def test_an_error_of_the_source_ends_it_and_the_page_says_so(tmp_path):
    class Gone(Greys):
        def arrivals(self, stop):
            yield from super().arrivals(stop)
            msg = "the folder is gone"
            raise FileNotFoundError(msg)

    with pytest.raises(FileNotFoundError, match="the folder is gone"):
        watch(brightness(), Gone([0.2]), tmp_path)
    assert len(rows(tmp_path)) == 1
    assert ": ended</h1>" in (tmp_path / "index.html").read_text()


def test_the_page_is_written_while_nothing_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "_PAGE_SECONDS", 0.0)
    monkeypatch.setattr(watching, "read_ahead", partial(read_ahead, idle=0.02))
    seen = []
    monkeypatch.setattr(watching.Page, "write", lambda page, *, running: seen.append(running))
    watch(brightness(), Greys([0.2, 0.2], pause=0.2), tmp_path)
    assert len(seen) > 4
    assert seen[-2:] == [True, False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_scores_nothing_twice_and_loses_nothing(tmp_path):
    levels, journal = [0.2] * 60, tmp_path / "results.jsonl"
    killed = 0
    for _ in range(4):
        child = multiprocessing.get_context("fork").Process(
            target=watch, args=(brightness(), Greys(levels, pause=0.005), tmp_path, "all")
        )
        already = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        child.start()
        deadline = time.monotonic() + 20
        while child.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
            if (tmp_path / "results.jsonl").exists() and (tmp_path / "results.jsonl").read_bytes().count(
                b"\n"
            ) > already + 5:
                os.kill(child.pid, signal.SIGKILL)
                killed += 1
                break
        child.join(20)
        assert not child.is_alive()
    assert killed
    watch(brightness(), Greys(levels), tmp_path)
    found = rows(tmp_path)
    assert [row["identity"] for row in found] == [[number] for number in range(60)]
    assert [row["number"] for row in found] == list(range(1, 61))
    assert (tmp_path / "results.csv").read_text().count("\n") == 61
