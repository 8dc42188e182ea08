"""Test and predict on every category of a dataset in one run."""

from anomalib.data.utils import Split

from anomalib_zsad.data.categories import samples_of
from anomalib_zsad.data.category_datamodule import CategoryDataModule, labelled
from anomalib_zsad.data.category_dataset import CategoryDataset


class AllCategories(CategoryDataModule):
    """All test images of all or some categories of any anomalib datamodule.

    The training data are the normal training images, for references of few-shot detection. There are no validation
    data: the thresholds are those of the model.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> datamodule = AllCategories(MVTecAD("./datasets/MVTecAD"), categories=["bottle", "cable"])
    """

    trains_on_normal_images = True

    def read_splits(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read the images of all categories."""
        if hasattr(self, "test_data"):
            return
        self.test_data = labelled(self.parts(), self.seed)
        self.val_data = self.test_data
        self.train_data = CategoryDataset(samples_of(self.parts(), Split.TRAIN, self.seed), self.test_data.task)

    def val_dataloader(self) -> list:
        """Return no loaders: thresholds are not fitted to test data."""
        return []
