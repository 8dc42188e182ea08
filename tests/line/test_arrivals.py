import threading
import time

import pytest

from anomalib_zsad.line.arrivals import Arrival, read_ahead


class Listed:
    """A source of numbered images."""

    name = "listed"

    def __init__(self, count, keeps_all=True, pause=0.0, error=None):
        self.count, self.keeps_all, self.pause, self.error = count, keeps_all, pause, error
        self.read = 0

    def skip(self, image, identity): ...

    def arrivals(self, stop):
        for number in range(self.count):
            if stop.wait(self.pause):
                return
            self.read += 1
            yield Arrival(str(number), None)
        if self.error:
            raise self.error


def test_all_images_come_in_order_and_few_are_read_ahead():
    source, stop = Listed(50), threading.Event()
    found = []
    for arrival in read_ahead(source, stop):
        time.sleep(0.002)
        found.append(arrival.image)
        assert source.read <= len(found) + 4
    assert found == [str(number) for number in range(50)]


def test_of_a_camera_the_latest_image_counts():
    source = Listed(100, keeps_all=False, pause=0.005)
    found = []
    for arrival in read_ahead(source, threading.Event()):
        time.sleep(0.05)
        found.append(int(arrival.image))
    assert found == sorted(set(found))
    assert len(found) < 50
    assert found[-1] >= 98


def test_an_error_of_the_source_is_raised_after_its_images():
    found = []
    with pytest.raises(FileNotFoundError, match="gone"):
        found.extend(read_ahead(Listed(3, error=FileNotFoundError("gone")), threading.Event()))
    assert [arrival.image for arrival in found] == ["0", "1", "2"]


def test_it_says_when_nothing_comes_and_ends_when_it_is_told_to():
    stop, seen = threading.Event(), []
    for arrival in read_ahead(Listed(1, pause=60), stop, idle=0.01):
        seen.append(arrival)
        if len(seen) == 3:
            stop.set()
    assert seen == [None, None, None]
    assert not [thread for thread in threading.enumerate() if thread.name == "source"]
