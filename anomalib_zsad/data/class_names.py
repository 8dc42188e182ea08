"""A user's own names for classes: a mapping, or a YAML file with one."""

from collections.abc import Mapping
from pathlib import Path

from anomalib_zsad.yaml_file import read_yaml

Names = dict[str, str]


def own_names(given: Mapping[str, str] | str | Path | None) -> Names:
    """Read names by category.

    Args:
        given: A mapping from category to name, or a YAML file with one.

    Returns:
        Names by `category_key`.

    Raises:
        ValueError: If the file is not a mapping from text to text.
        FileNotFoundError: If there is no such file.
    """
    names = _read(Path(given)) if isinstance(given, str | Path) else dict(given or {})
    return {category_key(category): name for category, name in names.items()}


def category_key(category: str) -> str:
    """Spell a category as names are looked up by."""
    return category.lower()


def _read(path: Path) -> Names:
    content = read_yaml(path, "a YAML file with one name for each class")
    pairs = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        msg = f"{path}: expected one name for each class, such as 'bottle: dark bottle', got {str(content)[:60]!r}"
        raise ValueError(msg)
    return dict(pairs)
