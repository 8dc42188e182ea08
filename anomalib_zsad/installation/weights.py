"""Which weights are here: those of CLIP and the adapters that authors published."""

import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from anomalib_zsad.clip.known_weights import publication_of, size_there
from anomalib_zsad.clip.weights import home, how_to_fetch, locate
from anomalib_zsad.installation.page import Finding
from anomalib_zsad.models import AFClip
from anomalib_zsad.models.parts.adapter_file import read_adapter

__all__ = ["clip_weights", "home", "is_cut_short", "published_adapters"]

BACKBONE, TAG = "ViT-L-14-336", "openai"
"""What models are built over by default."""


def clip_weights() -> Finding:
    """Look for the default weights of CLIP; where they are not here, ask whether they can be downloaded."""
    name = f"{BACKBONE} ({TAG})"
    located = locate(BACKBONE, TAG)
    if located is not None:
        size = f"{_in_words(located.path.stat().st_size)} at {located.path}"
        if is_cut_short(located.path):
            return Finding(name, f"{size}: the file is cut short, delete it and fetch it again", "fault")
        return Finding(name, f"{size} (from {located.source})")
    publication = publication_of(BACKBONE, TAG)
    assert publication is not None
    try:
        size = _in_words(size_there(publication))
    except ConnectionError as error:
        return Finding(name, f"not here, and no download ({error}): {how_to_fetch(BACKBONE, TAG)}", "fault")
    return Finding(name, f"not here: the first use downloads {size}", "absent")


def published_adapters() -> list[Finding]:
    """Look for the published adapters."""
    return [_adapter(name, publication.adapter(name)) for name, publication in AFClip.published.items()]


def is_cut_short(path: Path) -> bool:
    """Tell a file that ends too early, without reading it: by its table of tensors, or the archive's own end."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt"):
                return False
        except SafetensorError:
            return True
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    return is_archive and not zipfile.is_zipfile(path)


def _adapter(name: str, file: Path) -> Finding:
    if not file.is_file():
        return Finding(name, "not here: the first use downloads a few megabytes", "absent")
    try:
        read_adapter(file, "AFClip")
    except (OSError, ValueError) as error:
        return Finding(name, f"{error}", "fault")
    return Finding(name, f"{_in_words(file.stat().st_size)} at {file}")


def _in_words(size: int) -> str:  # bytes
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
