from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_zsad.evaluation.detection import Detection

MAP = torch.tensor([[0.1, 0.2], [0.3, 0.9]])
PIXELS = np.full((40, 60, 3), 128, np.uint8)
FIELDS = {"score": 0.9, "threshold": 0.5, "label": "anomalous", "p_value": 0.012, "_map": MAP, "_mask_above": 0.5}


def detection(**fields: object) -> Detection:
    return Detection(None, **{**FIELDS, "_size": (40, 60), "_pixels": PIXELS, **fields})


def test_the_map_has_the_size_of_the_image_and_the_mask_is_what_exceeds_the_threshold() -> None:
    found = detection()
    assert found.anomaly_map.shape == (40, 60)
    assert found.anomaly_map.dtype == np.float32
    corners = found.anomaly_map[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, MAP.flatten(), atol=1e-6)
    np.testing.assert_array_equal(found.mask, found.anomaly_map > 0.5)
    assert 0 < found.mask.mean() < 0.5


def test_a_small_image_has_the_mean_of_what_a_pixel_covers() -> None:
    fine = torch.zeros(64, 64)
    fine[::2] = 1
    np.testing.assert_allclose(detection(_map=fine, _size=(4, 4)).anomaly_map, 0.5, atol=0.1)


def test_the_picture_is_drawn_at_the_shape_of_the_image_and_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "out.png"
    detection().save(path)
    with Image.open(path) as picture:
        width, height = picture.size
        drawn = np.asarray(picture.convert("RGB"), dtype=int)
    assert width / 3 / height == pytest.approx(60 / 40, rel=0.01)
    fields = np.split(drawn, 3, axis=1)
    assert abs(fields[0][height // 2, :20] - 128).max() <= 1  # the image alone
    overlay = fields[1]
    assert overlay[-20, -20, 0] > overlay[-20, -20, 2]  # high is red
    assert overlay[height // 2, 5, 2] > overlay[height // 2, 5, 0]  # low is blue
    with pytest.raises(ValueError, match=r"suffix of a picture's format.*out\.what"):
        detection().save(tmp_path / "out.what")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["deeper"]


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3)])
def test_images_of_any_shape_have_a_picture(size: tuple[int, int]) -> None:
    found = detection(_size=size, _pixels=np.zeros((*size, 3), np.uint8))
    assert found.anomaly_map.shape == size
    assert found._repr_png_()[:4] == b"\x89PNG"


def test_what_a_notebook_and_a_prompt_show() -> None:
    assert detection()._repr_png_()[:4] == b"\x89PNG"
    expected = "Detection(score 0.900, anomalous (threshold 0.5), p = 0.012, 40 x 60 pixels)"
    assert repr(detection()) == expected


def test_a_model_without_maps_or_decisions() -> None:
    bare = detection(_map=None, threshold=None, label=None, p_value=None, _mask_above=None)
    assert bare.anomaly_map is None
    assert bare.mask is None
    assert repr(bare) == "Detection(score 0.900, 40 x 60 pixels)"
    assert bare.picture().width == pytest.approx(320, abs=1)
    assert detection(_mask_above=None).mask is None


def test_an_image_that_could_not_be_read() -> None:
    broken = Detection("part.png", label="unreadable", error="part.png cannot be read")
    assert np.isnan(broken.score)
    assert broken._repr_png_() is None
    assert repr(broken) == "Detection('part.png', error='part.png cannot be read')"
    for use in (lambda: broken.anomaly_map, lambda: broken.mask, lambda: broken.image, lambda: broken.save("out.png")):
        with pytest.raises(ValueError, match=r"part\.png cannot be read"):
            use()
