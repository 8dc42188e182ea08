"""Names from outside as parts of a path."""

import hashlib
import re

_RESERVED = frozenset('<>:"/\\|?*')
_LONGEST = 100  # bytes in UTF-8: leaves room for what is put around a name, of the 255 that file systems allow
_CHANGED = re.compile(r"~[0-9a-f]{12}$")


def path_component(name: str) -> str:
    """Turn a name into one component of a path: always the same one, and never that of another name.

    A harmless name stays as it is. Separators, what is not printable, dots and blanks at the ends, and what is too long
    are taken out of any other one, and a digest of the name is put at its end.

    Args:
        name: Any text, such as a category, a dataset or a model of a benchmark.
    """
    printable = "".join(sign if sign.isprintable() and sign not in _RESERVED else "_" for sign in name).strip(". ")
    clean = printable.encode()[:_LONGEST].decode(errors="ignore")
    if clean == name and clean and not _CHANGED.search(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{clean}~{digest}"
