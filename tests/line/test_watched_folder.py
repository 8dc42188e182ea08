import os
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.line import watched_folder
from anomalib_zsad.line.watched_folder import Folder

QUICK = {"settle": 0.05, "patience": 0.4, "listing": 0.2}


def encoded(level: int = 100) -> bytes:
    stream = BytesIO()
    noise = np.random.default_rng(level).integers(0, 30, (40, 40, 3))
    Image.fromarray((level + noise).astype(np.uint8)).save(stream, "png")
    return stream.getvalue()


class Collected:
    """Runs a source in a thread and keeps what it yields."""

    def __init__(self, source):
        self.found, self.error, self.stop = [], None, threading.Event()
        self.thread = threading.Thread(target=self._run, args=(source,))

    def _run(self, source):
        try:
            for arrival in source.arrivals(self.stop):
                self.found.append(arrival)
        except OSError as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    @property
    def names(self):
        return [arrival.image for arrival in self.found]

    def wait_for(self, number):
        deadline = time.monotonic() + 10
        while len(self.found) < number and self.thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.names


def test_what_is_there_comes_first_in_the_order_of_writing_then_what_is_new(tmp_path):
    for name, age in (("b.png", 30), ("deeper/a.png", 20), ("c.png", 10)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded())
        os.utime(path, (time.time() - age, time.time() - age))
    with Collected(Folder(str(tmp_path), **QUICK)) as collected:
        assert collected.wait_for(3) == ["b.png", "deeper/a.png", "c.png"]
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "d.png").write_bytes(encoded())
        assert collected.wait_for(4)[3:] == ["new/d.png"]
        time.sleep(0.5)  # two more listings
    assert len(collected.found) == 4
    assert all(arrival.pixels.shape == (3, 40, 40) for arrival in collected.found)


def test_a_file_that_is_being_written_is_read_once_it_is_whole(tmp_path):
    content = encoded()
    step = len(content) // 4 + 1  # the last piece is as long as the others: without its last byte a PNG can be read
    with Collected(Folder(str(tmp_path), **QUICK)) as collected:
        with (tmp_path / "a.png").open("wb") as file:
            for start in range(0, len(content), step):
                file.write(content[start : start + step])
                file.flush()
                time.sleep(0.1)  # longer than it has to stay unchanged
                assert not collected.found or file.tell() == len(content)
        assert collected.wait_for(1) == ["a.png"]
    assert collected.found[0].error is None


def test_a_damaged_file_is_an_error_and_holds_up_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded()[:500])
    (tmp_path / "empty.jpg").touch()
    with Collected(Folder(str(tmp_path), **QUICK)) as collected:
        (tmp_path / "b.png").write_bytes(encoded())
        assert collected.wait_for(3)[0] == "b.png"
    assert {arrival.image for arrival in collected.found if arrival.pixels is None} == {"a.png", "empty.jpg"}
    assert all("cannot be read" in arrival.error for arrival in collected.found[1:])


def test_a_file_that_is_overwritten_is_a_new_image(tmp_path):
    path = tmp_path / "latest.png"
    path.write_bytes(encoded(50))
    with Collected(Folder(str(tmp_path), **QUICK)) as collected:
        collected.wait_for(1)
        path.write_bytes(encoded(150))
        assert collected.wait_for(2) == ["latest.png"] * 2
    assert collected.found[0].pixels.mean() < 0.3 < collected.found[1].pixels.mean()


def test_what_was_done_is_skipped_unless_it_has_changed(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(encoded())
    with Collected(Folder(str(tmp_path), **QUICK)) as first:
        first.wait_for(3)
    (tmp_path / "b.png").write_bytes(encoded(90))
    source = Folder(str(tmp_path), **QUICK)
    for arrival in first.found:
        source.skip(arrival.image, arrival.identity)
    source.skip("gone.png", [1, 1])
    with Collected(source) as second:
        second.wait_for(1)
        time.sleep(0.3)
    assert second.names == ["b.png"]


def test_changes_that_are_not_reported_are_found_by_listing(tmp_path, monkeypatch):
    def silent(*_, stop_event, **__):
        while not stop_event.wait(0.02):
            yield set()

    monkeypatch.setattr(watched_folder, "watch", silent)
    with Collected(Folder(str(tmp_path), **QUICK)) as collected:
        time.sleep(0.1)
        (tmp_path / "a.png").write_bytes(encoded())
        assert collected.wait_for(1) == ["a.png"]


def test_a_file_whose_change_was_not_reported_keeps_its_place(tmp_path, monkeypatch):
    slow, quick = tmp_path / "slow.png", tmp_path / "quick.png"
    slow.write_bytes(encoded()[:500])

    def reporting_one(*_, stop_event, **__):
        yield set()
        slow.write_bytes(encoded())
        os.utime(slow, (time.time() - 1, time.time() - 1))
        quick.write_bytes(encoded())
        yield {(1, str(quick))}
        while not stop_event.wait(0.02):
            yield set()

    monkeypatch.setattr(watched_folder, "watch", reporting_one)
    with Collected(Folder(str(tmp_path), settle=0.2, patience=1, listing=60)) as collected:
        assert collected.wait_for(2) == ["slow.png", "quick.png"]


def test_a_folder_that_vanishes_is_one_error(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    with Collected(Folder(str(place), **QUICK)) as collected:
        time.sleep(0.1)
        place.rmdir()
        collected.thread.join(5)
    assert str(place) in str(collected.error)
    with pytest.raises(FileNotFoundError, match="expected a folder to watch"):
        Folder(str(place))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*/top_*.png", {"x/top_1.png", "y/top_2.png"}),
        ("**/top_?.png", {"top_0.png", "x/top_1.png", "y/top_2.png", "y/z/top_3.png"}),
        ("y/**", {"top_2.png", "z/top_3.png"}),
        ("[xy]/*.jpg", {"x/side.jpg"}),
    ],
)
def test_a_glob_names_the_images_that_are_meant(tmp_path, pattern, found):
    for name in ("top_0.png", "x/top_1.png", "y/top_2.png", "y/z/top_3.png", "x/side.jpg", "x/top_1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded())
    with Collected(Folder(f"{tmp_path}/{pattern}", **QUICK)) as collected:
        collected.wait_for(len(found))
        time.sleep(0.1)
    assert set(collected.names) == found


def test_what_systems_and_programs_keep_for_themselves_is_no_image(tmp_path):
    for name in (".hidden.png", "@eadir/a.png", "__MACOSX/b.png", "half.png.part", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded())
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "line\nfeed.png").write_bytes(encoded())
    with Collected(Folder(str(tmp_path), **QUICK)) as collected:
        collected.wait_for(1)
        time.sleep(0.3)
    assert collected.names == ["line\\nfeed.png"]
