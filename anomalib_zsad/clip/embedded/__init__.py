"""The weights that come with this package: a small CLIP for demonstration and tests (MODEL_CARD.md)."""

from pathlib import Path

DIGESTS = {"zsad-tiny": "c73edbf973e65a4d82e325e5d8e083b7654dded2bfdaf9c0caf599d704ce12a3"}
"""SHA-256 of the file of each backbone whose weights are embedded."""

USUAL_SIZE, SMALL_SIZE = 518, 168
"""Pixels: of images in the papers, and of those that the small CLIP was trained on."""


def embedded_file(backbone: str) -> Path | None:
    """Return the weights of a backbone in this package; None if it contains none."""
    return Path(__file__).with_name(f"{backbone}.safetensors") if backbone in DIGESTS else None


def is_embedded(path: Path) -> bool:
    """Return whether a file is part of this package."""
    return path.resolve().parent == Path(__file__).resolve().parent
