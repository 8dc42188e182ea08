"""What ACD-CLIP says about a class: prompts of both states, and descriptive names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from anomalib_zsad.data.names import class_key, description, read_class_words

NORMAL_STATES = ("{}", "a {}", "the {}")
ABNORMAL_STATES = (
    "a damaged {}",
    "a broken {}",
    "a {} with flaw",
    "a {} with defect",
    "a {} with damage",
)
TEMPLATES = ("{}.", "a photo of {}.")


class ClassPrompts:
    """The prompts about a class, state by state.

    Args:
        normal: Ways to name a normal object; {} stands for the class.
        abnormal: Ways to name an anomalous one.
        templates: Sentences; {} stands for the named object.
    """

    def __init__(
        self,
        normal: Sequence[str] = NORMAL_STATES,
        abnormal: Sequence[str] = ABNORMAL_STATES,
        templates: Sequence[str] = TEMPLATES,
    ) -> None:
        self.states = (tuple(normal), tuple(abnormal))
        self.templates = tuple(templates)

    def of(self, class_name: str) -> list[list[str]]:
        """Write the prompts of the normal state and those of the anomalous one."""
        return [
            [template.format(words.format(class_name)) for words in state for template in self.templates]
            for state in self.states
        ]


class ClassNames:
    """Descriptive names of classes, as the published results were made with.

    Args:
        own: Names that take precedence, by category: a mapping, or a YAML file with one.

    Raises:
        ValueError: If the file is not a mapping from text to text.
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, own: Mapping[str, str] | str | Path | None = None) -> None:
        self._own = read_class_words(own)

    def describe(self, category: str, dataset: str | None = None) -> str:
        """Name a class in the words of its prompts.

        Args:
            category: As the dataset calls it.
            dataset: The key of the dataset (see `dataset_key`); None where it is not known, then any dataset's name
                for the category will do.

        Returns:
            The descriptive name where there is one, else the category's own with spaces for underscores.
        """
        return self._own.get(class_key(category), description(category, dataset))
