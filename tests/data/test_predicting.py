from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import PredictDataset
from PIL import Image
from torchvision.transforms.v2 import Resize

from anomalib_zsad.data.predicting import ImageFiles, adopt
from anomalib_zsad.data.reading import read_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(levels).save(tmp_path / "a.png")
    Image.fromarray((levels // 256).astype(np.uint8)).save(tmp_path / "b.JPG")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_an_adopted_dataset_reads_16_bits(folder: Path) -> None:
    dataset = PredictDataset(folder)
    adopt(dataset)

    assert isinstance(dataset, ImageFiles)
    assert [Path(item.image_path).name for item in dataset] == ["a.png", "b.JPG"]
    torch.testing.assert_close(dataset[0].image, read_image(folder / "a.png"))
    assert dataset.collate_fn([dataset[0], dataset[1]]).image.shape == (2, 3, 8, 8)


def test_a_transform_is_kept(folder: Path) -> None:
    dataset = PredictDataset(folder / "a.png", transform=Resize((4, 4)))
    adopt(dataset)

    assert dataset[0].image.shape == (3, 4, 4)


def test_a_users_own_dataset_is_left_alone(folder: Path) -> None:
    class Own(PredictDataset):
        pass

    dataset = Own(folder)
    adopt(dataset)

    assert type(dataset) is Own


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:60])

    with pytest.raises(OSError, match=r"c\.png cannot be read"):
        ImageFiles(folder)[2]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"Found 0 images in {tmp_path}"):
        ImageFiles(tmp_path)
