import io
import threading
import time
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.line.scorer import Scorer
from anomalib_zsad.line.serving import app_of
from tests.line.brightness import CALIBRATION, brightness

testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra serve")

LIMITS = {"max_bytes": 50_000, "max_pixels": 10_000, "max_waiting": 8}


def encoded(level: int = 51, size: tuple[int, int] = (40, 30), kind: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def client():
    with testclient.TestClient(app_of(brightness(CALIBRATION), **LIMITS)) as client:
        yield client


def test_an_image_gets_score_label_and_p_value(client):
    answer = client.post("/detect", content=encoded(51))
    assert answer.status_code == 200
    assert answer.json() == {"score": pytest.approx(0.2), "label": "normal", "p_value": 0.75, "anomaly_map": None}
    assert client.post("/detect", content=encoded(204, kind="jpeg")).json()["label"] == "anomalous"


def test_the_map_comes_on_request_as_a_png(client):
    answer = client.post("/detect?map=true", content=encoded(204))
    picture = Image.open(io.BytesIO(b64decode(answer.json()["anomaly_map"])))
    assert picture.size == (40, 30)
    assert np.asarray(picture).tolist() == np.full((30, 40), 204).tolist()


def test_health_says_which_model_answers(client):
    answer = client.get("/health").json()
    assert answer["status"] == "ok"
    assert (answer["model"], answer["digest"]) == ("brightness", "b" * 12)
    assert answer["calibrated_on"] == str(CALIBRATION)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"no image", 400, "it is no image in one of JPEG, PNG"),
        (b"", 400, "it is no image in one of JPEG, PNG"),
        (encoded()[:70], 400, "The body of the request cannot be read"),
        (b"GIF89a" + bytes(100), 400, "it is no image in one of JPEG, PNG"),
        (encoded(size=(101, 100)), 400, "expected at most 10000 pixels, got 101 x 100"),
        (bytes(50_001), 413, "expected an image file of at most 50000 bytes, got more"),
    ],
    ids=["text", "nothing", "half", "gif", "pixels", "bytes"],
)
def test_what_is_no_image_or_too_large_is_one_error(client, content, status, message):
    answer = client.post("/detect", content=content)
    assert answer.status_code == status
    assert message in answer.json()["detail"]


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(client, monkeypatch):
    content = encoded(size=(3000, 3000))
    assert len(content) < LIMITS["max_bytes"]
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    assert client.post("/detect", content=content).status_code == 400


def test_nothing_of_a_request_reaches_the_disk(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    name = {"content-disposition": 'attachment; filename="../../evil.png"', "x-file": "/etc/passwd"}
    assert client.post("/detect?path=/etc/passwd", content=encoded(), headers=name).status_code == 200
    assert client.post("/detect", files={"file": ("../evil.png", encoded())}).status_code == 400
    assert not list(tmp_path.iterdir())


def test_a_model_that_fails_for_an_image_says_so():
    scorer = Scorer(lambda images: {}, "sized", "0", input_size=(7, 9))
    with testclient.TestClient(app_of(scorer, **LIMITS)) as client:
        answer = client.post("/detect", content=encoded())
    assert answer.status_code == 400
    assert answer.json()["detail"] == "expected images of 9 x 7 pixels, as exported for, got 40 x 30"


def test_more_images_than_may_wait_are_refused_and_the_others_answered():
    go, answer, found = threading.Event(), brightness(), []

    def slow(images):
        go.wait(20)
        return answer._run(images)

    with testclient.TestClient(app_of(Scorer(slow, "slow", "0"), **{**LIMITS, "max_waiting": 1})) as client:
        threads = [
            threading.Thread(target=lambda: found.append(client.post("/detect", content=encoded()))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while len(found) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [each.status_code for each in found] == [503] * 5
        assert found[0].headers["retry-after"] == "1"
        go.set()
        for thread in threads:
            thread.join()
    assert sorted(each.status_code for each in found) == [200] * 3 + [503] * 5
