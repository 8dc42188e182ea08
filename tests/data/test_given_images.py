from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from anomalib_zsad.data.given_images import given_images, is_one_image
from anomalib_zsad.data.reading import read_image

ROTATED_BY_90 = 6
colours = arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))


def read(image: object) -> torch.Tensor:
    (one,) = given_images(image)
    return one.read()


@settings(max_examples=20)
@drawn(colours)
def test_the_same_pixels_are_the_same_image_in_every_form(pixels: np.ndarray) -> None:
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    forms = [
        pixels,
        pixels[::-1].copy()[::-1],  # with negative strides
        pixels.astype(np.uint16) * 257,
        pixels / 255,
        (pixels / 255).astype(np.float32),
        Image.fromarray(pixels),
        torch.from_numpy(pixels).permute(2, 0, 1),
        expected,
    ]
    for form in forms:
        image = read(form)
        assert image.dtype == torch.float32
        torch.testing.assert_close(image.as_subclass(torch.Tensor), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("as_given", [lambda x: x, Image.fromarray, lambda x: x / 65535, torch.from_numpy])
def test_16_bits_are_read_as_from_a_file(as_given: Callable, tmp_path: Path) -> None:
    levels = np.array([[0, 257], [4095, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "image.png")
    torch.testing.assert_close(read(as_given(levels)), read_image(tmp_path / "image.png"), atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_a_picture_is_read_as_its_file_and_left_as_it_is(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4) * 10).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = ROTATED_BY_90
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    picture.save(path, exif=exif)
    with Image.open(path) as opened:
        torch.testing.assert_close(read(opened), read_image(path), atol=0, rtol=0)
        assert (opened.mode, opened.size) == (mode, (4, 6))


def test_grey_in_all_its_shapes() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for form in (grey, torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert read(form).shape == (3, 3, 4)
        assert (read(form)[1] * 255).round().byte().tolist() == grey.tolist()


def test_folders_batches_and_lists_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "inner/c.png", "notes.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("png"):
            Image.new("L", (2, 2)).save(tmp_path / name)
    folder = [str(tmp_path / name) for name in ("a.png", "b.png", "inner/c.png")]
    assert [each.path for each in given_images(tmp_path)] == folder
    mixed = given_images([tmp_path / "b.png", np.zeros((2, 3, 2, 3)), str(tmp_path)])
    assert [each.path for each in mixed] == [folder[1], None, None, *folder]
    assert [each.name for each in mixed[1:3]] == ["images[1][0]", "images[1][1]"]
    assert len(given_images(tmp_path.glob("*.png"))) == 3  # the hidden one, since it was named
    assert len(given_images(torch.zeros(4, 3, 5, 5))) == 4


def test_what_is_one_image(tmp_path: Path) -> None:
    one = (tmp_path / "part.png", "part.png", Image.new("L", (2, 2)), np.zeros((2, 2)), torch.zeros(3, 2, 2))
    many = (tmp_path, str(tmp_path), ["part.png"], np.zeros((1, 2, 2, 3)), torch.zeros(1, 3, 2, 2), iter(()))
    assert [is_one_image(each) for each in one] == [True] * len(one)
    assert [is_one_image(each) for each in many] == [False] * len(many)


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        (np.zeros((3, 5, 6)), ValueError, r"images: expected an array of shape \(H, W\) or .*, got shape \(3, 5, 6\)"),
        (torch.zeros(5, 6, 3), ValueError, r"images: expected a tensor of .*\(3, H, W\).*, got shape \(5, 6, 3\)"),
        ([np.zeros((2, 2)), np.zeros(2)], ValueError, r"images\[1\]: expected an array .*, got shape \(2,\)"),
        (np.zeros((0, 4)), ValueError, r"got shape \(0, 4\)"),
        (np.zeros((2, 2), np.int64), ValueError, "expected .*uint8, uint16 or floats in .*, got .*int64"),
        (np.full((2, 2), 200.0), ValueError, r"expected floats in \[0, 1\], got values from 200 to 200"),
        (np.full((2, 2), np.nan), ValueError, r"expected floats in \[0, 1\], got values from nan"),
        ([], ValueError, "expected at least one image, got an empty list"),
        (3, TypeError, "images: expected a path, a folder, a PIL image, .*, got int"),
        (b"...", TypeError, "got bytes"),
        (["part.png"], FileNotFoundError, r"no file or folder part\.png"),
    ],
)
def test_anything_else_is_refused_by_name(images: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        given_images(images)


def test_a_picture_whose_file_is_cut_short(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 80).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "cut.png") as opened, pytest.raises(OSError, match="images cannot be read"):
        read(opened)
