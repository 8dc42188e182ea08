"""The base of this package's datamodules: several categories of one source, read by `CategoryDataset`."""

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import Split
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.transforms.v2 import Transform

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.categories import Parts, parts_of, samples_of
from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.sharing import ShareInOrder, TrainingLoader, share_categories, share_once
from anomalib_zsad.paths import path_component
from anomalib_zsad.seam.datamodules import ReadsSplits, update_augmentations


class CategoryDataModule(ReadsSplits, AnomalibDataModule, ABC):
    """Several categories of one source.

    Its category is "", since every sample has its own: results go to `results/<Model>/<Dataset>/<version>`.

    Args:
        source: The datamodule of the dataset.
        categories: The categories to use. None: all on the disk.
        train_batch_size: Images in a training batch; n processes with b images train as one with n b.
        eval_batch_size: Images in a validation, test or prediction batch.
        num_workers: Processes that read images.
        train_augmentations: Transform of the training images and masks.
        val_augmentations: Transform of the validation images and masks.
        test_augmentations: Transform of the test images and masks.
        augmentations: Transform of the images and masks of every split that has none of its own.
        seed: Seed of splits, of the order of the training images and of their augmentations.
    """

    @arg.checked
    def __init__(
        self,
        source: AnomalibDataModule,
        categories: Sequence[str] | None = None,
        train_batch_size: arg.Images = 8,
        eval_batch_size: arg.Images = 8,
        num_workers: arg.CountOrNone = 2,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        seed: arg.Seed = 0,
    ) -> None:
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
        )
        self.source = source
        self.seed: int = seed
        self._chosen = categories
        self._parts: Parts | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the source as a folder name."""
        return path_component(self.source.name)

    @property
    def dataset_names(self) -> list[str]:
        """The names of all datasets behind it."""
        return getattr(self.source, "dataset_names", [self.name])

    def dataset_with(self, category: str) -> str:
        """Return the name of the dataset of a category."""
        inner = getattr(self.source, "dataset_with", None)
        return self.name if inner is None else inner(category)

    @property
    def training_sets(self) -> list[str]:
        """The categories trained on, as "VisA/candle"."""
        return [f"{self.name}/{category}" for category in self.parts()]

    def parts(self) -> Parts:
        """The chosen categories, each as a datamodule of its own."""
        if self._parts is None:
            self._parts = parts_of(self.source, self._chosen)
        return self._parts

    def prepare_data(self) -> None:
        """Find every category, and download it if anomalib can."""
        prepare(self.parts())

    def setup(self, stage: str | None = None) -> None:
        """Prepare the datasets of a stage; any number of calls, in any order."""
        self.read_splits(stage)
        update_augmentations(self)
        if isinstance(images := getattr(self, "train_data", None), CategoryDataset):
            images.seed = self.seed

    def train_dataloader(self) -> DataLoader:
        """The training images, in an order that the seed determines, shared by the processes of a training."""
        order = ShareInOrder(self.train_data, self.trainer, self.seed)
        return self._loader(self.train_data, self.train_batch_size, order, TrainingLoader)

    def val_dataloader(self) -> DataLoader | list:
        """The validation images, each seen by one process."""
        return self._loader(self.val_data, self.eval_batch_size, share_once(self.val_data, self.trainer))

    def test_dataloader(self) -> DataLoader:
        """The test images, those of each category seen by one process."""
        return self._loader(self.test_data, self.eval_batch_size, share_categories(self.test_data, self.trainer))

    def _loader(
        self,
        images: AnomalibDataset,
        batch_size: int,
        sampler: DistributedSampler | None,
        kind: type[DataLoader] = DataLoader,
    ) -> DataLoader:
        return kind(
            images,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=self.external_collate_fn or images.collate_fn,
        )

    def normal_images(self, category: str, stage: str | None = None) -> list[Path]:
        """Normal images that are not test images, as references for few-shot detection.

        Args:
            category: One of the categories.
            stage: The stage of a trainer whose images are compared with them. None: training, the categories of this
                datamodule itself.

        Returns:
            Paths, sorted.

        Raises:
            ValueError: The category is unknown, or has no such image.
        """
        parts = self._parts_read(stage)
        if category not in parts:
            msg = f"Unknown category {category!r} of {self.name}, expected one of: {', '.join(parts)}."
            raise ValueError(msg)
        samples = samples_of({category: parts[category]}, Split.TRAIN, self.seed)
        if samples.empty:
            msg = f"{parts[category].name}/{category} has no normal image that is not a test image."
            raise ValueError(msg)
        return sorted(map(Path, samples["image_path"]))

    def _parts_read(self, stage: str | None) -> Parts:  # noqa: ARG002
        """The categories whose images a stage reads."""
        return self.parts()


def prepare(parts: Parts) -> None:
    """Find or download every category.

    Raises:
        ConnectionError: A dataset does not exist and cannot be downloaded.
    """
    try:
        for part in parts.values():
            part.prepare_data()
    except (URLError, ConnectionError, TimeoutError) as error:
        msg = (
            f"{part.name} is not at {getattr(part, 'root', 'its root')} and cannot be downloaded ({error}): put the "
            "dataset there by hand, or say where it is with `root`."
        )
        raise ConnectionError(msg) from error


def labelled(parts: Parts, seed: int) -> CategoryDataset:
    """All test images of all categories, normal and anomalous."""
    return CategoryDataset(samples_of(parts, Split.TEST, seed))
