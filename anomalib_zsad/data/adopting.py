"""Images that reach a model by other ways than this package's datamodules go by the same rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from anomalib.data import AnomalibDataModule, AnomalibDataset, ImageItem, PredictDataset
from anomalib.data.transforms.utils import extract_transforms_by_type
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize, Transform

from anomalib_zsad.data.category_dataset import READ_HERE, CategoryDataset
from anomalib_zsad.data.item import ANY_CATEGORY, CategoryBatch
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.image_files import foreign_among

_SPLITS = ("train_data", "val_data", "test_data")


class ImageFiles(PredictDataset):
    """anomalib's dataset of image files, read as in training: upright, any bit depth, errors that name the file."""

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image."""
        path = self.image_filenames[index]
        image = read_image(path)
        return ImageItem(image=self.transform(image) if self.transform else image, image_path=str(path))


@dataclass(frozen=True)
class OneSize:
    """Collates items, after each image of several sizes was resized by itself, as the model resizes it.

    anomalib would resize them to the largest of the batch first, so that scores depended on the other images.

    Args:
        collate: Makes a batch of items of one size.
        resize: The model's.
    """

    collate: Callable[[Any], Any]
    resize: Transform

    def __call__(self, items: Any) -> Any:
        """Make a batch."""
        are_images = isinstance(items, Sequence) and all(isinstance(item, ImageItem) for item in items)
        if are_images and len({tuple(item.image.shape[-2:]) for item in items}) > 1:
            items = [self._resized(item) for item in items]
        return self.collate(items)

    def _resized(self, item: ImageItem) -> ImageItem:
        parts = {name: getattr(item, name, None) for name in ("image", "gt_mask", "soft_mask")}
        parts = {name: part for name, part in parts.items() if part is not None}
        return item.update(in_place=False, **dict(zip(parts, self.resize(*parts.values(), None), strict=False)))


def adopt(trainer: Trainer, pre_processor: Any) -> None:
    """Have all that a trainer is about to read go by the rules of this package, whoever made its loaders.

    It is to be called in `setup`: workers may be running in any later hook.

    Args:
        trainer: Has its datamodule or its loaders.
        pre_processor: The model's. The resizing in its `transform` brings images of several sizes to one.
    """
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    if isinstance(datamodule, AnomalibDataModule):
        _adopt_splits(datamodule)
    for loader in _given_loaders(trainer):
        _adopt_dataset(loader)
    strategy: Any = trainer.strategy
    # The one place through which Lightning passes every loader of every stage before it starts workers.
    strategy.process_dataloader = partial(_processed, type(strategy).process_dataloader, strategy, pre_processor)


def adopt_files(dataset: PredictDataset) -> None:
    """Make an existing dataset of anomalib list and read its files as this package does.

    Args:
        dataset: Changed in place, since loaders that have it do not let it be replaced.
    """
    if type(dataset) is PredictDataset:
        # The two classes differ in one method and in no attribute.
        dataset.__class__ = ImageFiles
        paths = dataset.image_filenames
        ours = [path for path, foreign in zip(paths, foreign_among(paths), strict=True) if not foreign]
        dataset.image_filenames = ours or paths  # one that was named counts, whatever its name


def _adopt_splits(datamodule: AnomalibDataModule) -> None:
    known: dict[int, AnomalibDataset] = {}  # two splits may be one dataset
    for split in _SPLITS:
        dataset = getattr(datamodule, split, None)
        if dataset is not None and _is_anomalibs(dataset):
            ours = known.setdefault(id(dataset), _taken_over(dataset, datamodule.category))
            setattr(datamodule, split, ours)


def _adopt_dataset(loader: DataLoader) -> None:
    dataset: Any = loader.dataset
    if isinstance(dataset, PredictDataset):
        adopt_files(dataset)
    elif _is_anomalibs(dataset) and loader.collate_fn == dataset.collate_fn:
        ours = _taken_over(dataset, dataset.category)
        dataset.samples = ours.samples  # the loader's sampler counts these
        vars(loader)["dataset"] = ours  # as an attribute it is refused
        loader.collate_fn = CategoryBatch.collate


def _is_anomalibs(dataset: Any) -> bool:
    return isinstance(dataset, AnomalibDataset) and type(dataset).__getitem__ in READ_HERE


def _taken_over(dataset: AnomalibDataset, category: str | None) -> CategoryDataset:
    ours = CategoryDataset.of(dataset, category or ANY_CATEGORY)
    ours.augmentations = dataset.augmentations
    ours.origin = dataset
    return ours


def _given_loaders(trainer: Trainer) -> list[DataLoader]:
    """List the loaders that a trainer was handed for its stage; Lightning has no public name for them this early."""
    loops: dict[Any, list[Any]] = {
        TrainerFn.FITTING: [trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop],
        TrainerFn.VALIDATING: [trainer.validate_loop],
        TrainerFn.TESTING: [trainer.test_loop],
        TrainerFn.PREDICTING: [trainer.predict_loop],
    }
    sources = [loop._data_source.instance for loop in loops.get(trainer.state.fn, ())]
    given = [
        each for each in sources if each is not None and not isinstance(each, LightningModule | LightningDataModule)
    ]
    flat = [loader for each in given for loader in CombinedLoader(each).flattened]
    return [loader for loader in flat if isinstance(loader, DataLoader)]


def _processed(process: Callable[[Any, Any], Any], strategy: Any, pre_processor: Any, loader: Any) -> Any:
    # A checkpoint, which is read after `setup`, may have brought another size.
    resizes = extract_transforms_by_type(getattr(pre_processor, "transform", None), Resize)
    if isinstance(loader, DataLoader) and resizes:
        collate: Any = loader.collate_fn
        loader.collate_fn = OneSize(collate.collate if isinstance(collate, OneSize) else collate, resizes[0])
    return process(strategy, loader)
