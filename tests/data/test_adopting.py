from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import Folder, FolderDataset, ImageBatch, PredictDataset
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Resize

from anomalib_zsad.data.adopting import ImageFiles, adopt, adopt_files
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
    adopt_files(dataset)

    assert isinstance(dataset, ImageFiles)
    assert [Path(item.image_path).name for item in dataset] == ["a.png", "b.JPG"]
    torch.testing.assert_close(dataset[0].image, read_image(folder / "a.png"))
    assert dataset.collate_fn([dataset[0], dataset[1]]).image.shape == (2, 3, 8, 8)


def test_a_transform_is_kept(folder: Path) -> None:
    dataset = PredictDataset(folder / "a.png", transform=Resize((4, 4)))
    adopt_files(dataset)

    assert dataset[0].image.shape == (3, 4, 4)


def test_a_users_own_dataset_is_left_alone(folder: Path) -> None:
    class Own(PredictDataset):
        pass

    dataset = Own(folder)
    adopt_files(dataset)

    assert type(dataset) is Own


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:60])

    with pytest.raises(OSError, match=r"c\.png cannot be read"):
        ImageFiles(folder)[2]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"Found 0 images in {tmp_path}"):
        ImageFiles(tmp_path)


def test_hidden_files_are_not_predicted_unless_named(folder: Path) -> None:
    (folder / "._a.png").write_bytes(b"macOS")
    dataset, named = PredictDataset(folder), PredictDataset(folder / "._a.png")
    adopt_files(dataset)
    adopt_files(named)

    assert [path.name for path in dataset.image_filenames] == ["a.png", "b.JPG"]
    assert [path.name for path in named.image_filenames] == ["._a.png"]


class Sizes(LightningModule):
    """A model that scores an image by its size as it comes, and by its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_processor = PreProcessor(Compose([Resize((8, 8))]))
        self.scores: list[float] = []

    def setup(self, stage: str) -> None:
        adopt(self.trainer, self.pre_processor)

    def predict_step(self, batch: ImageBatch) -> None:
        images = self.pre_processor.transform(batch.image)
        self.scores += images.mean((1, 2, 3)).tolist()

    def test_step(self, batch: ImageBatch) -> None:
        self.scores += batch.gt_mask.float().mean((-2, -1)).tolist()


def trainer() -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(accelerator="cpu", logger=False, **quiet)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_score_does_not_depend_on_the_batch_whoever_made_the_loader(
    tmp_path: Path, batch_size: int, workers: int
) -> None:
    generator = np.random.default_rng(0)
    for number, size in enumerate([(9, 30), (8, 8), (40, 11), (21, 20)]):
        Image.fromarray(generator.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "._0.png").write_bytes(b"macOS")
    dataset, model = PredictDataset(tmp_path), Sizes()
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=dataset.collate_fn)

    trainer().predict(model, dataloaders=[loader])

    alone = [Resize((8, 8))(read_image(tmp_path / f"{number}.png")).mean().item() for number in range(4)]
    assert model.scores == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "transform", "expected"), [(None, Resize((8, 8)), [5]), (2, Resize((8, 8)), [2, 2, 1]), (4, None, [1] * 5)]
)
def test_files_are_predicted_in_batches_where_the_model_brings_them_to_one_size(
    tmp_path: Path, size: int | None, transform: Resize | None, expected: list[int]
) -> None:
    for number in range(5):
        Image.fromarray(np.zeros((20 + number, 30), np.uint8)).save(tmp_path / f"{number}.png")
    files = PredictDataset(tmp_path) if size is None else ImageFiles(tmp_path, eval_batch_size=size)
    loader = DataLoader(files, collate_fn=files.collate_fn)
    stage = trainer()
    stage.state.fn = TrainerFn.PREDICTING
    stage.predict_loop._data_source.instance = [loader]

    adopt(stage, PreProcessor(transform))

    assert list(map(len, loader.batch_sampler)) == expected


@pytest.fixture
def jpeg_masks(tmp_path: Path) -> Path:
    levels = np.zeros((16, 16), dtype=np.uint8)
    levels[4:12, 4:12], levels[:2] = 255, 100  # what counts, and what a JPEG smears
    for name, values in (("good/0.png", levels), ("bad/1.png", levels), ("masks/1.jpg", levels)):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(values).save(tmp_path / name)
    return tmp_path


def test_masks_of_anomalibs_datamodules_are_cut_between_their_levels(jpeg_masks: Path) -> None:
    options = {"normal_dir": "good", "abnormal_dir": "bad", "mask_dir": "masks", "root": jpeg_masks}
    folder = Folder("parts", **options, val_split_mode="same_as_test", test_split_mode="from_dir", num_workers=0)
    tested = FolderDataset("parts", **options, split="test")
    for data in ({"datamodule": folder}, {"dataloaders": DataLoader(tested, collate_fn=tested.collate_fn)}):
        model = Sizes()
        trainer().test(model, **data, verbose=False)
        assert max(model.scores) == 0.25
    assert set(folder.test_data.samples["category"]) == {"parts"}  # as through `Auxiliary`


def test_drawn_anomalies_are_there_as_long_as_they_are_read(jpeg_masks: Path) -> None:
    for number in range(5):  # of more pixels than anomalib's noise has tiles
        Image.new("RGB", (64, 64)).save(jpeg_masks / f"good/{number}.png")
    options = {"test_split_mode": "synthetic", "test_split_ratio": 0.5, "val_split_mode": "none"}
    folder = Folder("parts", "good", jpeg_masks, **options, num_workers=0)
    model = Sizes()
    trainer().test(model, datamodule=folder, verbose=False)
    assert len(model.scores) == 2
