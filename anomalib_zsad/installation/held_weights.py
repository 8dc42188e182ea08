"""Findings about weights: which are here, and whether the default ones can be downloaded."""

from collections.abc import Sequence

from anomalib_zsad.clip.backbone_inventory import Held
from anomalib_zsad.clip.carrying import DEFAULT_TAG
from anomalib_zsad.clip.known_weights import publication_of, size_there
from anomalib_zsad.clip.weights import how_to_fetch
from anomalib_zsad.installation.findings import Finding, State

_BACKBONE = "ViT-L-14-336"
DEFAULT = f"{_BACKBONE}:{DEFAULT_TAG}"
"""The default backbone of models."""

_STATES: dict[str, State] = {"complete": "ok", "absent": "absent", "partial": "fault", "wrong content": "fault"}


def findings_of(weights: Sequence[Held]) -> list[Finding]:
    """Describe an inventory; for the default CLIP, where it is not here, check whether it can be downloaded."""
    return [_downloadable(held) if held.name == DEFAULT and held.path is None else _finding(held) for held in weights]


def _finding(held: Held) -> Finding:
    note = f" ({held.note})" if held.note else ""
    if held.path is None:
        return Finding(held.name, f"{held.use}: not here, the first use downloads it{note}", _STATES[held.state])
    state = "" if held.state == "complete" else f"{held.state}, delete it and fetch it again: "
    return Finding(held.name, f"{held.use}: {state}{_in_words(held.size)} at {held.path}{note}", _STATES[held.state])


def _downloadable(held: Held) -> Finding:
    publication = publication_of(_BACKBONE, DEFAULT_TAG)
    assert publication is not None  # open_clip has had it all along
    try:
        size = _in_words(size_there(publication))
    except ConnectionError as error:
        ways = how_to_fetch(_BACKBONE, DEFAULT_TAG)
        return Finding(held.name, f"{held.use}: not here, and no download ({error}): {ways}", "fault")
    return Finding(held.name, f"{held.use}: not here, the first use downloads {size}", "absent")


def _in_words(size: int) -> str:  # bytes
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
