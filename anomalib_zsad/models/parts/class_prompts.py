"""Prompts about a class in words alone: states, named in sentences."""

from collections.abc import Sequence


class ClassPrompts:
    """Writes the prompts about a class, state by state.

    Args:
        normal: Ways to name a normal object; {} stands for the class.
        abnormal: Ways to name an anomalous one.
        templates: Sentences; {} stands for the named object.
    """

    def __init__(self, normal: Sequence[str], abnormal: Sequence[str], templates: Sequence[str]) -> None:
        self.states = (tuple(normal), tuple(abnormal))
        self.templates = tuple(templates)

    def of(self, class_name: str) -> list[list[str]]:
        """Write the prompts of the normal state and those of the anomalous one."""
        return [
            [template.format(words.format(class_name)) for words in state for template in self.templates]
            for state in self.states
        ]
