"""One level of the Haar transform over a grid of tokens: low and high frequencies."""

import pywt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices


class HaarBands(nn.Module):
    """Split a grid of tokens into a low and a high frequency part, channel by channel.

    The four filters are orthonormal over blocks of 2 x 2 tokens: LL, LH (horizontal detail), HL (vertical) and HH
    (diagonal). Each band is brought back to the grid by its own inverse transform, so that all four add up to the
    tokens, and the high part LH + HL + HH is their difference from LL. A grid with an odd side is padded by its last
    row and column, PyWavelets' "symmetric"; without decimation any grid is.

    Args:
        choices: Whether the transform decimates, and the upsampling of decimated bands.
    """

    kernels: Tensor

    def __init__(self, choices: WMoEChoices = WMoEChoices()) -> None:
        super().__init__()
        self.kind = choices.wavelet_kind
        self.back = choices.wavelet_return
        self.register_buffer("kernels", _haar_kernels(), persistent=False)

    def forward(
        self,
        patches: Tensor,  # (B, gh, gw, D)
    ) -> tuple[Tensor, Tensor]:  # (B, gh, gw, D) twice; with "none" at half the size
        """Split into F_L and F_H."""
        grid = (patches.shape[1], patches.shape[2])
        if self.kind == "swt":
            low = self._filter_everywhere(patches)
            return low, patches - low
        if self.back == "idwt":
            low = self.synthesise(self.analyse(patches, slice(1)), grid, slice(1))
            return low, patches - low
        bands = self.analyse(patches)
        low, high = bands[0], bands[1:].sum(0)
        return (low, high) if self.back == "none" else (self._resize(low, grid), self._resize(high, grid))

    def analyse(
        self,
        patches: Tensor,  # (B, gh, gw, D)
        bands: slice = slice(None),  # a slice cannot change
    ) -> Tensor:  # (K, B, gh / 2, gw / 2, D), rounded up
        """Compute the coefficients of some of the bands LL, LH, HL, HH."""
        padded = _extend(patches, patches.shape[1] % 2, patches.shape[2] % 2)
        blocks = padded.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        return torch.einsum("kij,byixjd->kbyxd", self.kernels[bands], blocks)

    def synthesise(
        self,
        coefficients: Tensor,  # (K, B, gh / 2, gw / 2, D), rounded up
        grid: tuple[int, int],
        bands: slice = slice(None),  # a slice cannot change
    ) -> Tensor:  # (B, gh, gw, D)
        """Bring bands back to the grid, as the sum of their inverse transforms."""
        blocks = torch.einsum("kij,kbyxd->byixjd", self.kernels[bands], coefficients)
        return blocks.flatten(1, 2).flatten(2, 3)[:, : grid[0], : grid[1]]

    def _filter_everywhere(
        self,
        patches: Tensor,  # (B, gh, gw, D)
    ) -> Tensor:  # (B, gh, gw, D)
        height, width = patches.shape[1:3]
        padded = _extend(patches, 1, 1)
        shifts = [(i, j) for i in range(2) for j in range(2)]
        kernel = self.kernels[0] / 2
        return torch.stack([kernel[i, j] * padded[:, i : i + height, j : j + width] for i, j in shifts]).sum(0)

    def _resize(
        self,
        band: Tensor,  # (B, gh / 2, gw / 2, D)
        grid: tuple[int, int],
    ) -> Tensor:  # (B, gh, gw, D)
        return F.interpolate(band.permute(0, 3, 1, 2), size=grid, mode=self.back).permute(0, 2, 3, 1)


def _haar_kernels() -> Tensor:  # (4, 2, 2): LL, LH, HL, HH
    wavelet = pywt.Wavelet("haar")
    low, high = (torch.tensor(taps[::-1], dtype=torch.float64) for taps in (wavelet.dec_lo, wavelet.dec_hi))
    pairs = ((low, low), (high, low), (low, high), (high, high))
    return torch.stack([torch.outer(rows, columns) for rows, columns in pairs]).float()


def _extend(
    patches: Tensor,  # (B, gh, gw, D)
    rows: int,
    columns: int,
) -> Tensor:  # (B, gh + rows, gw + columns, D), each 0 or 1
    for dimension, count in ((1, rows), (2, columns)):
        if count:
            last = patches.narrow(dimension, patches.shape[dimension] - 1, 1)
            patches = torch.cat([patches, last], dim=dimension)
    return patches
