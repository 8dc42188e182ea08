"""Under which names a knowledge base may know the class that a dataset calls so and so."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import yaml

_ALIASES = Path(__file__).with_name("aliases.yaml")
_ANY = "*"
_SAYS_NOTHING = re.compile(r"(class ?)?\d+")


def plain(name: str) -> str:
    """Write a name as base and dataset alike would: small letters, spaces for underscores and hyphens."""
    return " ".join(re.sub("[_-]", " ", name).lower().split())


def says_nothing(name: str) -> bool:
    """Tell whether a name is only a number, as `01` of BTAD and `Class1` of DAGM are."""
    return bool(_SAYS_NOTHING.fullmatch(plain(name)))


def candidates(name: str, dataset: str | None = None) -> Iterator[str]:
    """Name the entries that a class may have, the closest first, as `plain` writes them.

    Args:
        name: As its dataset calls it.
        dataset: The dataset's name, where it is known.
    """
    tables = _aliases()
    own = tables.get(_key(dataset), {}) if dataset else {}
    for known in (name, own.get(plain(name)), own.get(_ANY), tables["any"].get(plain(name))):
        if known:
            yield plain(known)
    if not says_nothing(name):
        yield plain(name).rstrip("0123456789 ")


def readable(name: str) -> str:
    """Write a class's name as a sentence would: no underscores, no number at its end; "object" for a mere number."""
    return "object" if says_nothing(name) else plain(name).rstrip("0123456789 ") or plain(name)


@lru_cache(maxsize=1)
def _aliases() -> dict[str, dict[str, str]]:
    tables = yaml.safe_load(_ALIASES.read_text(encoding="utf-8"))
    return {
        _key(dataset): {plain(name): entry for name, entry in names.items()}
        for datasets, names in tables.items()
        for dataset in datasets.split(",")
    }


def _key(dataset: str) -> str:
    return "".join(filter(str.isalnum, dataset.split("/")[0].lower()))
