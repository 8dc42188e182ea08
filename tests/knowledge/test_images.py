import io

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.knowledge.images import UnreadableImageError, find_images, png_of


def put(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((20, 30), np.uint8) if pixels is None else pixels).save(path)
    return path


def keys(data):
    return {name: [image.key for image in images] for name, images in data.images.items()}


def test_a_folder_in_the_layout_of_mvtec(mvtec_root):
    data = find_images(str(mvtec_root), classes=["bottle", "metal_nut"])
    assert list(data.images) == ["bottle", "metal_nut"]
    assert data.name == mvtec_root.name
    for name, images in data.images.items():
        assert len(images) == 4
        assert all(image.path == mvtec_root / image.key for image in images)
        assert all(image.key.startswith(f"{name}/test/") and "/good/" not in image.key for image in images)


def test_a_folder_with_a_folder_of_images_for_each_class(tmp_path):
    for name in ("cup/b.PNG", "cup/deep/a.jpg", "fork/0.bmp"):
        put(tmp_path / name)
    (tmp_path / "cup" / "notes.txt").write_text("no image")
    for name in ("cup/._b.PNG", "cup/.ipynb_checkpoints/b.PNG", "cup/__MACOSX/good/b.PNG", "__MACOSX/cup/b.PNG"):
        put(tmp_path / name)
    assert keys(find_images(str(tmp_path))) == {"cup": ["cup/b.PNG", "cup/deep/a.jpg"], "fork": ["fork/0.bmp"]}


def test_the_folder_of_one_class(mvtec_root):
    assert keys(find_images(str(mvtec_root / "bottle"))) == keys(find_images(str(mvtec_root), classes=["bottle"]))


def test_a_folder_in_which_normal_images_are_too(visa_root):
    with pytest.raises(ValueError, match=r"candle to hold anomalous images only, found .*: pass the datamodule"):
        find_images(str(visa_root), classes=["candle"])


def test_a_folder_in_which_masks_lie_beside_their_images(magnetic_tile_root):
    with pytest.raises(
        ValueError, match=r"found exp\S+\.jpg beside exp\S+\.png, as an image and its mask are: "
    ) as told:
        find_images(str(magnetic_tile_root))
    assert f"--data MagneticTile --root {magnetic_tile_root}, or a folder with one folder of" in str(told.value)
    assert str(told.value).count("\n") == 0


@pytest.mark.parametrize("mask", ["0.png", "0_mask.png", "0_GT.bmp", "0-label.png"])
def test_names_of_masks(tmp_path, mask):
    for name in ("cup/crack/0.jpg", f"cup/crack/{mask}", "fork/test/bent/0.jpg", f"fork/test/bent/{mask}"):
        put(tmp_path / name)
    for name in ("cup", "fork"):
        with pytest.raises(ValueError, match=f"{name} to hold anomalous images only, found .* beside "):
            find_images(str(tmp_path), classes=[name])


def test_images_of_one_name_in_several_folders_are_no_masks(tmp_path):
    for name in ("cup/crack/0.png", "cup/bent/0.jpg", "cup/bent/0_unmasked.jpg"):
        put(tmp_path / name)
    assert len(find_images(str(tmp_path)).images["cup"]) == 3


@pytest.mark.parametrize("name", ["good", "Normal", "OK", "no", "free", "MT_Free", "defect-free"])
def test_a_folder_whose_name_says_normal_is_no_class(tmp_path, name):
    for path in (
        f"{name}/0.png",
        "cup/0.png",
        f"fork/{name}/0.png",
        f"spoon/test/{name}/0.png",
        "spoon/test/bent/0.png",
    ):
        put(tmp_path / path)
    for classes in (None, [name], ["fork"]):
        with pytest.raises(ValueError, match=rf"found \S+{name}, by its name a folder of normal"):
            find_images(str(tmp_path), classes=classes)
    data = find_images(str(tmp_path), classes=["cup", "spoon"])
    assert keys(data) == {"cup": ["cup/0.png"], "spoon": ["spoon/test/bent/0.png"]}


@pytest.mark.parametrize("name", ["freezer", "goods", "abnormal", "noodles", "carefree"])
def test_a_class_is_not_taken_for_normal(tmp_path, name):
    put(tmp_path / name / "0.png")
    assert keys(find_images(str(tmp_path))) == {name: [f"{name}/0.png"]}


@pytest.mark.parametrize("name", ["MVTecAD", "anomalib.data.MVTecAD", "MVTec", "anomalib_zsad.MVTec"])
def test_a_datamodule(mvtec_root, name):
    data = find_images(name, mvtec_root, ["screw", "bottle"])
    assert sorted(data.images) == ["bottle", "screw"]
    assert keys(data) == keys(find_images(str(mvtec_root), classes=["bottle", "screw"]))
    assert len(find_images(name, mvtec_root).images) == 15


def test_visa(visa_root):
    data = find_images("VisA", visa_root, ["candle"])
    assert all(image.key.startswith("candle/Data/Images/Anomaly/") for image in data.images["candle"])
    assert all((visa_root / image.key).is_file() for image in data.images["candle"])


def test_one_category(magnetic_tile_root):
    data = find_images("MagneticTile", magnetic_tile_root)
    assert list(data.images) == ["magnetic_tile"]
    assert not any("MT_Free" in image.key for image in data.images["magnetic_tile"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("./nowhere", "no folder and no datamodule ./nowhere"),
        ("Nothing", "no folder and no datamodule Nothing"),
        ("os.path.join", "no folder and no datamodule os.path.join"),
        ("no.such.module.Data", "no folder and no datamodule"),
        ("Folder", "the datamodule Folder needs more than a root: pass the folder itself"),
    ],
)
def test_data_that_are_none(data, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        find_images(data, tmp_path)


def test_no_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*gone, expected the dataset that MVTecAD reads"):
        find_images("MVTecAD", tmp_path / "gone")


def test_classes_without_an_anomalous_image(tmp_path):
    put(tmp_path / "cup" / "test" / "good" / "0.png")
    put(tmp_path / "fork" / "0.png")
    for classes, told in ((None, "cup"), (["fork", "spoon", "cup"], "spoon, cup")):
        with pytest.raises(ValueError, match=f"no anomalous image of {told}, expected"):
            find_images(str(tmp_path), None, classes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no anomalous image of any class"):
        find_images(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("name", "pixels", "size"),
    [
        ("a.png", np.full((20, 2048), 60000, np.uint16), (1024, 10)),
        ("a.bmp", np.full((2048, 512), 234, np.uint8), (256, 1024)),
        ("a.png", np.full((20, 30, 4), 234, np.uint8), (30, 20)),
    ],
)
def test_any_image_becomes_a_small_rgb_png(tmp_path, name, pixels, size):
    picture = Image.open(io.BytesIO(png_of(put(tmp_path / name, pixels))))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", size)
    assert abs(np.asarray(picture).astype(int) - 234).max() <= 1


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    for name in ("a.png", "b.png"):
        with pytest.raises(UnreadableImageError, match=name):
            png_of(tmp_path / name)
