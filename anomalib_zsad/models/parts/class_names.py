"""The words for the classes of images in prompts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn

from anomalib_zsad.data.item import ANY_CATEGORY, categories_of
from anomalib_zsad.data.names import class_key, dataset_key, read_class_words, readable, tested_by
from anomalib_zsad.seam.trainers import datamodule_of, trainer_of

Words = Callable[[str, str | None], str]
"""`words(category, dataset)` names a class; the dataset is its `dataset_key`, None where it is not known."""


class ClassNames:
    """Maps the category of an image to the class name in its prompt.

    Args:
        words: How a method names a class.
        given: Names that take precedence, by category: a mapping or a YAML file with one.
        class_name: The class of all images. None: the sample's own, else the datamodule's, else "object".

    Raises:
        ValueError: If the file is not a mapping from text to text.
        FileNotFoundError: If there is no such file.
    """

    def __init__(
        self,
        words: Words,
        given: Mapping[str, str] | str | Path | None = None,
        class_name: str | None = None,
    ) -> None:
        self.words = words
        self.given = read_class_words(given)
        self.class_name = class_name

    @property
    def default(self) -> str:
        """The class name for images of unknown category."""
        return self.describe(self.class_name or ANY_CATEGORY)

    def describe(self, category: str, dataset: str | None = None) -> str:
        """Return the class name for a category.

        Args:
            category: As the dataset calls it.
            dataset: The key of the dataset; None where it is not known.
        """
        return self.given.get(class_key(category)) or self.words(category, dataset)

    def of(
        self,
        batch: Any,  # of anomalib
        module: Any,  # the LightningModule that scores the batch
    ) -> list[str]:  # B
        """Return the class name of every image of a batch."""
        categories = categories_of(batch, datamodule_of(module), self.class_name)
        return [self.describe(name, None if self.class_name else dataset_of(module, name)) for name in categories]


def readable_words(category: str, dataset: str | None = None) -> str:  # noqa: ARG001  # these depend on the class alone
    """Return a class name without underscores and trailing numbers."""
    return readable(category)


def dataset_of(
    module: Any,  # a LightningModule
    category: str,
) -> str | None:
    """Return the `dataset_key` of the dataset that a category is read from; None without a datamodule.

    A datamodule with a target trains and validates on a dataset of its own name, and tests on the target's.
    """
    trainer = trainer_of(module)
    datamodule = datamodule_of(module)
    if datamodule is None:
        return None
    read = datamodule if trainer.state.fn == TrainerFn.FITTING else tested_by(datamodule)
    return dataset_key(read.dataset_with(category) if hasattr(read, "dataset_with") else read.name)
