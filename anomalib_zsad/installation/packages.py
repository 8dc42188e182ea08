"""Which distributions are installed, and whether they are those that the package requires."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

DISTRIBUTION = "anomalib-zsad"


@dataclass(frozen=True)
class Package:
    """A required distribution.

    Args:
        name: Its name.
        wanted: The required versions, such as ">=2.7,<2.8".
        installed: The version that is here; None for none.
    """

    name: str
    wanted: str
    installed: str | None

    @classmethod
    def of(cls, requirement: Requirement) -> "Package":
        """Look a requirement up."""
        return cls(requirement.name, str(requirement.specifier), installed(requirement.name))

    @property
    def fits(self) -> bool:
        """Whether it is installed in a required version."""
        return self.installed is not None and Requirement(f"{self.name}{self.wanted}").specifier.contains(
            self.installed, prereleases=True
        )

    def __str__(self) -> str:
        if self.installed is None:
            return f"{self.name} is missing"
        return f"{self.name} {self.installed}" + ("" if self.fits else f", which is not {self.wanted}")


def installed(name: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def required(extra: str | None = None, distribution: str = DISTRIBUTION) -> list[Package]:
    """List what a distribution requires: always, or with one of its extras.

    Args:
        extra: The extra, with those that it includes; None for what is always needed.
        distribution: Its name; one that is not installed requires nothing.
    """
    try:
        requirements = list(map(Requirement, requires(distribution) or ()))
    except PackageNotFoundError:
        return []
    return list(map(Package.of, _of_extra(requirements, extra, distribution)))


def extras(distribution: str = DISTRIBUTION) -> list[str]:
    """List the extras of a distribution, in its order."""
    try:
        return list(metadata(distribution).get_all("Provides-Extra") or ())
    except PackageNotFoundError:
        return []


def _of_extra(requirements: Iterable[Requirement], extra: str | None, distribution: str) -> Iterator[Requirement]:
    requirements = list(requirements)
    for each in requirements:
        always = each.marker is None or each.marker.evaluate({"extra": ""})
        if (always and extra is None) or (
            extra and not always and each.marker and each.marker.evaluate({"extra": extra})
        ):
            if _same(each.name, distribution):  # an extra of its own extras
                for included in each.extras:
                    yield from _of_extra(requirements, included, distribution)
            else:
                yield each


def _same(one: str, other: str) -> bool:
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()
