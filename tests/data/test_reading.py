import ast
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data.utils import read_image as anomalib_read_image
from PIL import Image, ImageOps

from anomalib_zsad.data.reading import read_image, read_mask, size_of

GRADIENT = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
ROTATED_BY_90 = 6


def save(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)
    return path


def colourful() -> Image.Image:
    return Image.fromarray(np.stack([GRADIENT, GRADIENT[::-1], GRADIENT // 2], axis=-1))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_an_8_bit_image_reads_as_anomalib_reads_it(tmp_path: Path, mode: str) -> None:
    path = save(colourful().convert(mode), tmp_path / ("image.tif" if mode == "CMYK" else "image.png"))

    image = read_image(path)

    assert image.dtype == torch.float32
    torch.testing.assert_close(image, anomalib_read_image(path, as_tensor=True), rtol=0, atol=0)


def test_transparency_is_dropped(tmp_path: Path) -> None:
    picture = colourful().convert("RGBA")
    picture.putalpha(0)

    image = read_image(save(picture, tmp_path / "image.png"))

    torch.testing.assert_close(image, read_image(save(colourful(), tmp_path / "opaque.png")))


def test_a_palette_with_transparent_entries_reads_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(GRADIENT).convert("P")
    path = save(picture, tmp_path / "image.png", transparency=bytes(range(256)))

    torch.testing.assert_close(read_image(path), read_image(save(Image.fromarray(GRADIENT), tmp_path / "grey.png")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_by_the_range_of_the_format(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 257], [4095, 65535]], dtype=np.uint16)

    image = read_image(save(Image.fromarray(levels), tmp_path / f"image.{suffix}"))

    assert image.shape == (3, 2, 2)
    torch.testing.assert_close(image[2], torch.from_numpy(levels / 65535).float())


def test_16_and_8_bits_of_the_same_picture_agree(tmp_path: Path) -> None:
    wide = save(Image.fromarray(GRADIENT.astype(np.uint16) * 257), tmp_path / "wide.png")
    narrow = save(Image.fromarray(GRADIENT), tmp_path / "narrow.png")

    torch.testing.assert_close(read_image(wide), read_image(narrow))


def test_exif_rotation_is_applied_to_images_and_masks(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = ROTATED_BY_90
    path = save(Image.fromarray(GRADIENT), tmp_path / "image.png", exif=exif)

    image = read_image(path)

    assert image.shape == (3, 4, 6)
    torch.testing.assert_close(image[0], torch.from_numpy(np.rot90(GRADIENT, -1).copy()).float() / 255)
    assert read_mask(path, path, (4, 6)).shape == (4, 6)


def test_an_image_of_floating_point_values_is_refused(tmp_path: Path) -> None:
    path = save(Image.fromarray(np.ones((2, 2), dtype=np.float32)), tmp_path / "depth.tif")

    with pytest.raises(OSError, match=r"depth\.tif cannot be read: it holds floating-point values"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"cut.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(OSError, match=rf"cut\.{suffix} cannot be read"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)

    with pytest.raises(OSError, match=r"notes\.png cannot be read: it is no image"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize(("threshold", "defective"), [(0, [0, 1, 1, 1]), (127, [0, 0, 0, 1])])
@pytest.mark.parametrize("scale", [1, 257])
def test_a_mask_is_cut_at_its_threshold(tmp_path: Path, threshold: int, defective: list[int], scale: int) -> None:
    levels = np.array([[0, 1, 127, 128]]) * scale
    path = save(Image.fromarray(levels.astype(np.uint8 if scale == 1 else np.uint16)), tmp_path / "mask.png")

    mask = read_mask(path, "image.png", (1, 4), threshold)

    assert mask.dtype == torch.uint8
    assert mask.tolist() == [defective]


def test_a_mask_with_a_class_in_blue_alone_is_defective(tmp_path: Path) -> None:
    pixels = np.zeros((1, 2, 3), dtype=np.uint8)
    pixels[0, 1, 2] = 1

    mask = read_mask(save(Image.fromarray(pixels), tmp_path / "mask.png"), "image.png", (1, 2))

    assert mask.tolist() == [[0, 1]]


def test_a_mask_of_another_size_names_both_files_and_sizes(tmp_path: Path) -> None:
    path = save(Image.fromarray(GRADIENT), tmp_path / "mask.png")

    with pytest.raises(ValueError, match=r"mask\.png is 4 x 6 pixels, but its image photo\.jpg is 6 x 4"):
        read_mask(path, "photo.jpg", (4, 6))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "I;16"])
def test_what_is_fully_transparent_in_a_mask_is_normal(tmp_path: Path, mode: str) -> None:
    levels = np.array([[0, 200, 90]], dtype=np.uint8)
    options: dict[str, object] = {}
    if mode == "I;16":
        picture, options = Image.fromarray(levels.astype(np.uint16)), {"transparency": 90}
    elif mode in {"P", "L"}:
        picture, options = Image.fromarray(levels).convert(mode), {"transparency": 90}
    else:
        picture = Image.merge("LA", [Image.fromarray(each) for each in (levels, np.array([[0, 1, 0]], np.uint8))])
        picture = picture.convert(mode)
    path = save(picture, tmp_path / "mask.png", **options)

    assert read_mask(path, "image.png", (1, 3)).tolist() == [[0, 1, 0]]


def test_a_format_that_starts_a_program_is_refused_whatever_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "drawing.png"
    colourful().save(path, "EPS")

    with pytest.raises(OSError, match=r"drawing\.png cannot be read: it is no image in one of JPEG, PNG, "):
        read_image(path)


def test_a_pipe_and_a_folder_are_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()

    for name in ("pipe.png", "folder.png"):
        with pytest.raises(OSError, match=rf"{name} cannot be read: it is no regular file"):
            read_mask(tmp_path / name, "image.png", (1, 1))


@pytest.mark.parametrize("side", [11, 40])
def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = save(Image.new("1", (side, side)), tmp_path / "huge.png")

    with pytest.raises(OSError, match=r"huge\.png cannot be read: expected at most 100 pixels, got more"):
        read_image(path)


@pytest.mark.parametrize("orientation", [1, ROTATED_BY_90])
def test_the_size_is_that_of_the_upright_image(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(GRADIENT), tmp_path / "image.jpg", exif=exif)

    assert size_of(path) == tuple(read_image(path).shape[1:])


def test_the_script_of_the_documentation_opens_files_alike(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/deploy.md").read_text("utf-8")
    script = ast.parse(next(part for part in text.split("```python\n") if "watch.py" in part).split("\n```")[0])
    namespace: dict[str, object] = {"np": np, "Image": Image, "ImageOps": ImageOps}
    function = next(part for part in script.body if isinstance(part, ast.FunctionDef))
    exec(compile(ast.Module([function], []), "docs/deploy.md", "exec"), namespace)
    exif = Image.Exif()
    exif[0x0112] = ROTATED_BY_90
    files = [
        save(Image.fromarray(GRADIENT.astype(np.uint16) * 200), tmp_path / "wide.png"),
        save(colourful(), tmp_path / "turned.png", exif=exif),
        save(Image.fromarray(GRADIENT).convert("P"), tmp_path / "palette.png", transparency=bytes(range(256))),
        save(colourful().convert("RGBA"), tmp_path / "transparent.png"),
    ]

    for path in files:
        ours = read_image(path).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(namespace["opened"](path), ours, rtol=0, atol=1e-6)
