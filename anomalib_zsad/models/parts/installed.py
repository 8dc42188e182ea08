"""Packages of the extra `export`, which only some uses need."""

from importlib import import_module
from importlib.util import find_spec

_ADVICE = "pip install 'anomalib-zsad[export]'"


def expect_installed(what: str, *packages: str) -> None:
    """Check that packages can be imported, before anything is computed.

    Args:
        what: What needs them, for the message.
        *packages: Their names.

    Raises:
        ModuleNotFoundError: If one is not installed.
        ImportError: If one is, and does not work.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        msg = f"{what} needs {' and '.join(missing)}: {_ADVICE}"
        raise ModuleNotFoundError(msg, name=missing[0])
    for package in packages:
        _expect_working(what, package)


def _expect_working(what: str, package: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        msg = f"{what} needs {package}, whose installation does not work ({error}): {_ADVICE}"
        raise ImportError(msg, name=package) from error
