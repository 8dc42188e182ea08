"""Letters and digits, for what is printed or embossed on things."""

from functools import lru_cache

import numpy as np
from PIL import Image

_COLUMNS = {
    "A": "7E1111117E", "B": "7F49494936", "C": "3E41414122", "D": "7F4141221C", "E": "7F49494941",
    "F": "7F09090901", "G": "3E4149497A", "H": "7F0808087F", "K": "7F08142241", "L": "7F40404040",
    "M": "7F020C027F", "N": "7F0408107F", "P": "7F09090906", "R": "7F09192946", "S": "4649494931",
    "T": "01017F0101", "U": "3F4040403F", "V": "1F2040201F", "X": "6314081463", "Z": "6151494543",
    "0": "3E5149453E", "2": "4261514946", "3": "2141454B31", "4": "1814127F10", "5": "2745454539",
    "6": "3C4A494930", "7": "0171090503", "9": "064949291E",
}  # fmt: skip
"""A letter of 5 by 7 dots: one byte a column, the lowest bit on top."""

CHARACTERS = "".join(_COLUMNS)
ASPECT = 5 / 7
_FINE = 8


def letter(
    character: str,
    u: np.ndarray,  # (H, W), centre of the letter at 0
    v: np.ndarray,  # (H, W)
    height: float,
) -> np.ndarray:  # (H, W) in [0, 1]
    """Draw a character, upright in its own coordinates.

    Args:
        character: One of `CHARACTERS`.
        u: To the right.
        v: Downwards.
        height: From its top to its bottom.
    """
    glyph = _glyph(character)
    dots = 7 * _FINE / height
    rows = (v * dots + glyph.shape[0] / 2).astype(np.int32).clip(0, glyph.shape[0] - 1)
    columns = (u * dots + glyph.shape[1] / 2).astype(np.int32).clip(0, glyph.shape[1] - 1)
    return glyph[rows, columns]


@lru_cache(maxsize=len(_COLUMNS))
def _glyph(character: str) -> np.ndarray:  # (h, w), empty along its border
    columns = np.frombuffer(bytes.fromhex(_COLUMNS[character]), dtype=np.uint8)
    dots = np.unpackbits(columns[:, None], axis=1, bitorder="little")[:, :7].T.astype(np.float32)
    padded = Image.fromarray(np.pad(dots, 1))
    smooth = padded.resize((padded.width * _FINE, padded.height * _FINE), Image.Resampling.BICUBIC)
    return np.clip(3 * np.asarray(smooth) - 1, 0, 1)
