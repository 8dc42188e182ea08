"""Fixed prompts of a class: every state in every template."""

from collections.abc import Sequence


class ClassPrompts:
    """Composes the prompts of a class for both states.

    Args:
        normal: Phrases for a normal object; {} stands for the class.
        abnormal: Phrases for an anomalous one.
        templates: Prompt templates; {} stands for the phrase.
    """

    def __init__(self, normal: Sequence[str], abnormal: Sequence[str], templates: Sequence[str]) -> None:
        self.states = (tuple(normal), tuple(abnormal))
        self.templates = tuple(templates)

    def of(self, class_name: str) -> list[list[str]]:
        """Return the prompts of the normal state and those of the anomalous one."""
        return [
            [template.format(words.format(class_name)) for words in state for template in self.templates]
            for state in self.states
        ]
