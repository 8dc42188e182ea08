"""A knowledge base that can be asked: what anomalous images of a class look like."""

import hashlib
import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import from_json

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.data.names import knowledge_entries, plain
from anomalib_zsad.knowledge.schema import SCHEMA_VERSION, ClassTexts, Knowledge

BUILTIN = "builtin"
GENERIC = "object"
"""The entry for classes that a base does not have."""

_BUILTIN = Path(__file__).with_name("builtin.json")

logger = logging.getLogger(__name__)


class KnowledgeBase:
    """Descriptions of anomalous images, by class.

    Class names are found as datasets write them: `metal_nut`, `Woven_001`; see `data.names` for those
    that mean nothing without their dataset, such as `01`.

    Args:
        content: What the file holds.
        sha256: Of the file.
    """

    def __init__(self, content: Knowledge, sha256: str = "") -> None:
        self.content = content
        self.sha256 = sha256
        self._names = {plain(name): name for name in content.classes}
        self._said: set[str] = set()

    @property
    def classes(self) -> list[str]:
        """The classes that it has."""
        return list(self.content.classes)

    def find(self, class_name: str, dataset: str | None = None) -> str | None:
        """Find the entry of a class.

        Args:
            class_name: As its dataset calls it.
            dataset: The dataset, by any of its names or by `dataset_key`. Without it, names such as "01" or "Class1"
                are found only where the base itself has an entry of that name.

        Returns:
            One of `classes`, or None where the class is unknown.
        """
        return next((self._names[name] for name in knowledge_entries(class_name, dataset) if name in self._names), None)

    def texts(self, class_name: str, dataset: str | None = None) -> list[str]:
        """Return all accepted descriptions of a class: those of the class itself, then those of its images.

        An unknown class has those of the generic entry, "object"; it is logged once.

        Args:
            class_name: As in `find`.
            dataset: As in `find`.
        """
        return self.class_texts(class_name, dataset) + self.all_image_texts(class_name, dataset)

    def class_texts(self, class_name: str, dataset: str | None = None) -> list[str]:
        """Return the accepted descriptions of a class itself, without those of its images; else as `texts`."""
        return [text.text for text in self._entry(class_name, dataset).llm]

    def all_image_texts(self, class_name: str, dataset: str | None = None) -> list[str]:
        """Return the accepted descriptions of all images of a class, without those of the class; else as `texts`."""
        images = self._entry(class_name, dataset).vqa.values()
        return [text.text for image in images if image.status == "ok" for text in image.descriptions]

    def image_texts(self, class_name: str, image_path: str | Path, dataset: str | None = None) -> list[str]:
        """Return the accepted descriptions of one image, none where there are none.

        Args:
            class_name: As in `find`.
            image_path: Relative to the dataset's root, or with any folders in front of it.
            dataset: As in `find`.
        """
        name = self.find(class_name, dataset)
        answers = self.content.classes[name].vqa if name else {}
        parts = PurePosixPath(Path(image_path).as_posix()).parts
        tails = ("/".join(parts[start:]) for start in range(len(parts)))  # the longest first
        answer = next((answers[tail] for tail in tails if tail in answers), None)
        return [text.text for text in answer.descriptions] if answer and answer.status == "ok" else []

    def _entry(self, class_name: str, dataset: str | None) -> ClassTexts:
        name = self.find(class_name, dataset)
        if name:
            return self.content.classes[name]
        if class_name not in self._said and plain(class_name) != GENERIC:
            self._said.add(class_name)
            logger.warning("The knowledge base knows no class %r: the texts about any object are used.", class_name)
        own = self._names.get(GENERIC)
        return self.content.classes[own] if own else load_knowledge(BUILTIN).content.classes[GENERIC]


def load_knowledge(source: str | Path = BUILTIN) -> KnowledgeBase:
    """Read a knowledge base.

    Args:
        source: "builtin" for the one of this package, or a file.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it cannot be read.
        ValueError: If it is no knowledge base, or one of another version.
    """
    return _builtin() if source == BUILTIN else _load(Path(source))


def check_replaceable(path: Path, classes: Iterable[str]) -> None:
    """Check that a base of these classes may be written to a path: nothing that is there gets lost.

    Args:
        path: The file; its folder need not be there.
        classes: Those of the new base.

    Raises:
        OSError: If what is there cannot be read.
        ValueError: If it is no *.json file, no knowledge base, or one that has other classes too.
    """
    if path.suffix != ".json":
        msg = f"a knowledge base is a *.json file, got {path}"
        raise ValueError(msg)
    if not path.exists():
        return
    kept = {plain(name) for name in classes}
    lost = [name for name in load_knowledge(path).classes if plain(name) not in kept]
    if lost:
        msg = (
            f"{path} also knows {', '.join(lost)}: write another file and merge both, or let the new one know these too"
        )
        raise ValueError(msg)


def save_knowledge(content: Knowledge, path: Path) -> None:
    """Write a knowledge base, whole or not at all; its folder is made where it is missing."""
    with whole_file(path) as temporary:
        temporary.write_text(content.model_dump_json(indent=1, exclude_defaults=True) + "\n", encoding="utf-8")


@lru_cache(maxsize=1)
def _builtin() -> KnowledgeBase:
    return _load(_BUILTIN)


def _load(path: Path) -> KnowledgeBase:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{path}: expected a knowledge base or the word {BUILTIN!r}, but there is no such file"
        raise FileNotFoundError(msg) from error
    except OSError as error:
        msg = f"{path}: expected a knowledge base, but it cannot be read: {error.strerror}"
        raise OSError(msg) from error
    return KnowledgeBase(_parse(raw, path), hashlib.sha256(raw).hexdigest())


def _parse(raw: bytes, path: Path) -> Knowledge:
    try:
        content = from_json(raw)
    except ValueError as error:
        msg = f"{path} is not a knowledge base: expected JSON, got {_one_line(error)}"
        raise ValueError(msg) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is None:
        msg = f"{path} is not a knowledge base: expected an object with schema_version, got other JSON"
        raise ValueError(msg)
    if version != SCHEMA_VERSION:
        msg = (
            f"{path} has schema version {_one_line(version)}, expected {SCHEMA_VERSION}: another anomalib_zsad wrote it"
        )
        raise ValueError(msg)
    try:
        return Knowledge.model_validate(content)
    except ValidationError as error:
        first = cast("dict[str, Any]", error.errors(include_url=False)[0])
        where = ".".join(map(str, first["loc"]))
        msg = f"{path} is not a knowledge base: {_one_line(where)}: {_one_line(first['msg'])}"
        raise ValueError(msg) from error


def _one_line(reason: object) -> str:
    return "".join(filter(str.isprintable, str(reason)))[:120]
