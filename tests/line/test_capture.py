import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_zsad.line import capture
from anomalib_zsad.line.capture import Camera, Video


def film(path: Path, frames: int = 10) -> Path:
    """Frames that grow brighter, five a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (48, 32))
    for number in range(frames):
        picture = np.full((32, 48, 3), 20 * number + 10, np.uint8)
        picture[..., 0] = 0  # no blue
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "clip.avi")


def names(source) -> list[str]:
    return [arrival.image for arrival in source.arrivals(threading.Event())]


def test_all_frames_come_in_order_as_rgb(clip):
    found = list(Video(clip).arrivals(threading.Event()))
    assert [arrival.image for arrival in found] == [f"clip.avi {number}" for number in range(10)]
    for number, arrival in enumerate(found):
        red, green, blue = (255 * arrival.pixels).mean((1, 2)).tolist()
        assert red == pytest.approx(20 * number + 10, abs=6)
        assert green == pytest.approx(20 * number + 10, abs=6)
        assert blue < 8


def test_frames_are_left_out_by_the_clock_of_the_video(clip):
    assert names(Video(clip, interval=0.5)) == ["clip.avi 0", "clip.avi 3", "clip.avi 6", "clip.avi 9"]


def test_a_run_that_ended_goes_on(clip):
    source = Video(clip, interval=0.5)
    for arrival in list(Video(clip, interval=0.5).arrivals(threading.Event()))[:2]:
        source.skip(arrival.image, arrival.identity)
    source.skip("clip.avi 8", [1, 1, 8])  # of another file
    assert names(source) == ["clip.avi 6", "clip.avi 9"]


def test_a_video_that_is_cut_off_says_so(clip, tmp_path, caplog):
    path = tmp_path / "short.avi"
    path.write_bytes(clip.read_bytes()[: round(0.8 * clip.stat().st_size)])
    read = len(names(Video(path)))
    assert 0 < read < 10
    assert f"{path}: expected 10 frames, could read {read}" in caplog.text


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no video"):
        Video(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text.mp4: expected a video that OpenCV reads"):
        Video(tmp_path / "text.mp4")


def test_a_camera_is_a_number_or_an_address():
    with pytest.raises(ValueError, match="expected the number of a camera or an address"):
        Camera("front door")
    with pytest.raises(ValueError, match="camera 99 cannot be opened"):
        Camera("99")
    with pytest.raises(ValueError, match=r"^http://127.0.0.1:9/x cannot be opened"):
        Camera("http://user:secret@127.0.0.1:9/x?token=1")


def test_a_stream_that_breaks_off_is_opened_again(monkeypatch, caplog):
    opened = []

    class Stream:
        """Gives two frames, then none."""

        def __init__(self, *arguments):
            opened.append(arguments)
            self.left = 2

        def isOpened(self):  # noqa: N802
            return True

        def grab(self):
            self.left -= 1
            return self.left >= 0

        def retrieve(self):
            return True, np.zeros((4, 4, 3), np.uint8)

        def release(self): ...

    monkeypatch.setattr(capture.cv2, "VideoCapture", Stream)
    monkeypatch.setattr(capture, "_REOPEN", 0.01)
    stop, found = threading.Event(), []
    for arrival in Camera("rtsp://user:secret@10.0.0.7/live").arrivals(stop):
        found.append(arrival)
        if len(found) == 5:
            stop.set()
    assert len(opened) == 3
    assert [arrival.image for arrival in found] == [f"rtsp://10.0.0.7/live {number}" for number in range(5)]
    assert caplog.text.count("gives no frame") == 2
    assert "secret" not in caplog.text
