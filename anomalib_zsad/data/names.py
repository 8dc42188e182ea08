"""Looking up names of datasets and of their classes in `names.yaml`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from anomalib_zsad.yaml_file import read_yaml

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule  # nothing heavy is imported here: commands on knowledge need no torch

Domain = Literal["industrial", "medical"]
ClassWords = dict[str, str]
"""Words for classes, by `class_key`."""

_FILE = Path(__file__).with_name("names.yaml")
_ANY_CLASS = "*"
_NUMBER = re.compile(r"(class ?)?\d+")


@dataclass(frozen=True)
class _Dataset:
    """An entry of `names.yaml`."""

    name: str
    aliases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    domain: Domain = "industrial"
    descriptions: Mapping[str, str] = field(default_factory=dict)
    knowledge: Mapping[str, str] = field(default_factory=dict)


def dataset_key(datamodule: "AnomalibDataModule | str") -> str:
    """Return one key for a dataset, whichever of its datamodules or names is used: "visa" for `VisA` and `Visa`.

    Args:
        datamodule: A datamodule, where a target's dataset has priority. Or a name of a dataset, or of a training set as
            in `Auxiliary.training_sets` ("VisA/candle").
    """
    name = datamodule if isinstance(datamodule, str) else tested_by(datamodule).name
    key = _key(name)
    known = _datasets().get(key)
    return _key(known.name) if known else key


def dataset_keys(datamodule: "AnomalibDataModule") -> set[str]:
    """Return the keys of all datasets that a datamodule tests on."""
    tested = tested_by(datamodule)
    return set(map(dataset_key, getattr(tested, "dataset_names", [tested.name])))


def dataset_name(name: str) -> str:
    """Return the package's name for a dataset, or for a part of one that papers treat as a dataset ("BMAD Brain")."""
    known = _datasets().get(_key(name))
    if known is None:
        return name
    return next((part for part in known.parts if _key(part) == _key(name)), known.name)


def domain_of(datamodule: "AnomalibDataModule | str | None") -> Domain:
    """Return the domain of the dataset that a datamodule tests on; industrial where the dataset is unknown."""
    if datamodule is None:
        return "industrial"
    keys = {dataset_key(datamodule)} if isinstance(datamodule, str) else dataset_keys(datamodule)
    medical = [key in _datasets() and _datasets()[key].domain == "medical" for key in keys]
    return "medical" if all(medical) else "industrial"


def tested_by(datamodule: Any) -> Any:
    """Return the datamodule that is tested: the target, or its target in turn, where there is one."""
    while getattr(datamodule, "target", None) is not None:
        datamodule = datamodule.target
    return datamodule


def read_class_words(source: Mapping[str, str] | str | Path | None) -> ClassWords:
    """Read a user's words for classes.

    Args:
        source: A mapping from class to words, or a YAML file with one.

    Raises:
        ValueError: If the file is not a mapping from text to text.
        FileNotFoundError: If there is no such file.
    """
    words = _read_mapping(Path(source)) if isinstance(source, str | Path) else dict(source or {})
    return {class_key(name): text for name, text in words.items()}


def class_key(name: str) -> str:
    """Return the spelling of a class under which a user's words are looked up."""
    return name.lower()


def classes_of(dataset: str) -> list[str]:
    """Return the classes of a dataset that `names.yaml` has words for, sorted; none where the dataset is unknown."""
    known = _datasets().get(_key(dataset))
    return sorted(set(known.descriptions) - {_ANY_CLASS}) if known else []


def description(name: str, dataset: str | None = None) -> str:
    """Return the words for a class with which the results of ACD-CLIP were published.

    Args:
        name: As the dataset calls the class.
        dataset: Any name of the dataset. None: unknown, then the first dataset with such a class is used.

    Returns:
        The published words if there are any, else the name with spaces for underscores.
    """
    key, otherwise = class_key(name), name.replace("_", " ")
    if dataset is None:
        every = (each.descriptions for each in _datasets().values())
        return next((words[key] for words in every if key in words), otherwise)
    known = _datasets().get(_key(dataset))
    words = known.descriptions if known else {}
    return words.get(key, words.get(_ANY_CLASS, otherwise))


def readable(name: str) -> str:
    """Return a class name as words: without underscores or a trailing number; "object" for a mere number."""
    if is_number(name):
        return "object"
    words = plain(name).rstrip("0123456789 ") or plain(name)
    return _content()["readable"].get(words, words)


def is_number(name: str) -> bool:
    """Whether a class name is a mere number, such as `01` of BTAD and `Class1` of DAGM."""
    return bool(_NUMBER.fullmatch(plain(name)))


def plain(name: str) -> str:
    """Return a name in lower case, with single spaces for underscores and hyphens."""
    return " ".join(re.sub("[_-]", " ", name).lower().split())


def knowledge_entries(name: str, dataset: str | None = None) -> Iterator[str]:
    """Yield the entries of a knowledge base that may describe a class, the closest first, as `plain` spells them.

    Args:
        name: As the dataset calls the class.
        dataset: Any name of the dataset, if it is known.
    """
    known = _datasets().get(_key(dataset)) if dataset else None
    entries = known.knowledge if known else {}
    anywhere = _content()["knowledge"].get(plain(name))
    for entry in (name, entries.get(plain(name)), entries.get(_ANY_CLASS), anywhere):
        if entry:
            yield plain(entry)
    if not is_number(name):
        yield plain(name).rstrip("0123456789 ")


def _key(name: str) -> str:
    return "".join(filter(str.isalnum, name.split("/")[0].lower()))


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _datasets() -> dict[str, _Dataset]:
    """By each of their names, in the order of the file."""
    entries = [
        _Dataset(
            name,
            tuple(entry.get("aliases", ())),
            tuple(entry.get("parts", ())),
            entry.get("domain", "industrial"),
            {class_key(each): words for each, words in entry.get("descriptions", {}).items()},
            {plain(each): found for each, found in entry.get("knowledge", {}).items()},
        )
        for name, entry in _content()["datasets"].items()
    ]
    return {_key(name): entry for entry in entries for name in (entry.name, *entry.aliases, *entry.parts)}


def _read_mapping(path: Path) -> dict[str, str]:
    content = read_yaml(path, "a YAML file with one name for each class")
    pairs = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        msg = f"{path}: expected one name for each class, such as 'bottle: dark bottle', got {str(content)[:60]!r}"
        raise ValueError(msg)
    return dict(pairs)
