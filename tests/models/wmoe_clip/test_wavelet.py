"""The Haar transform against PyWavelets, and what the two parts of it must be."""

import numpy as np
import pytest
import pywt
import torch
from torch.nn import functional as F

from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.wavelet import HaarBands
from tests.models.wmoe_clip.reference import haar

GRIDS = [(37, 37), (4, 6), (3, 4), (1, 5)]


def grid_of_tokens(grid, width=3):
    return torch.randn(2, *grid, width, generator=torch.Generator().manual_seed(0))


def test_filters_are_those_of_pywavelets_and_orthonormal():
    kernels = HaarBands().kernels
    wavelet = pywt.Wavelet("haar")
    low, high = (np.array(taps)[::-1] for taps in (wavelet.dec_lo, wavelet.dec_hi))
    for kernel, rows, columns in zip(kernels, (low, high, low, high), (low, low, high, high), strict=True):
        np.testing.assert_allclose(kernel, np.outer(rows, columns), atol=1e-7)
    torch.testing.assert_close(kernels.flatten(1) @ kernels.flatten(1).T, torch.eye(4), atol=1e-6, rtol=0)
    assert kernels[1].tolist() == [pytest.approx([0.5, 0.5]), pytest.approx([-0.5, -0.5])]


@pytest.mark.parametrize("grid", [(37, 37), (4, 6), (3, 4), (2, 5)])
def test_coefficients_are_those_of_pywavelets(grid):
    x = grid_of_tokens(grid)
    ours = HaarBands().analyse(x)
    low, details = pywt.dwt2(x.numpy(), "haar", mode="symmetric", axes=(1, 2))
    assert ours.shape == (4, 2, -(-grid[0] // 2), -(-grid[1] // 2), 3)
    np.testing.assert_allclose(ours, np.stack([low, *details]), atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_each_band_returns_as_pywavelets_returns_it(grid):
    x, bands = grid_of_tokens(grid), HaarBands()
    coefficients = bands.analyse(x)
    for band in range(1, 4):
        ours = bands.synthesise(coefficients[band : band + 1], grid, slice(band, band + 1))
        one = [coefficients[band].numpy() if i == band else None for i in range(1, 4)]
        theirs = pywt.idwt2((None, tuple(one)), "haar", axes=(1, 2))[:, : grid[0], : grid[1]]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    low, high = haar(x[0].double().numpy())
    np.testing.assert_allclose(bands(x)[0][0], low, atol=1e-5)
    np.testing.assert_allclose(bands(x)[1][0], high, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_reconstruction_is_perfect_and_keeps_the_energy(grid):
    x, bands = grid_of_tokens(grid), HaarBands()
    low, high = bands(x)
    torch.testing.assert_close(low + high, x)
    torch.testing.assert_close(bands.synthesise(bands.analyse(x), grid), x)
    padded = F.pad(x.permute(0, 3, 1, 2), (0, grid[1] % 2, 0, grid[0] % 2), mode="replicate").permute(0, 2, 3, 1)
    torch.testing.assert_close(bands.analyse(x).square().sum(), padded.square().sum())
    low, high = bands(padded)
    assert (low * high).sum().abs() < 1e-3
    means = F.avg_pool2d(padded.permute(0, 3, 1, 2), 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(low.permute(0, 3, 1, 2), means)


def test_constant_grids_have_no_detail_and_stripes_have_one_kind():
    assert HaarBands()(torch.full((1, 37, 37, 2), 3.0))[1].abs().max() < 1e-5
    stripes = torch.zeros(1, 36, 36, 1)
    stripes[:, :, ::2] = 1
    vertical, horizontal = (
        HaarBands().analyse(each)[1:].square().flatten(1).sum(1) for each in (stripes, stripes.transpose(1, 2))
    )
    assert vertical.tolist() == [pytest.approx(0, abs=1e-5), pytest.approx(324), pytest.approx(0, abs=1e-5)]
    assert horizontal.tolist() == [pytest.approx(324), pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5)]


@pytest.mark.parametrize("back", ["bilinear", "nearest"])
def test_interpolated_coefficients_are_what_torch_interpolates(back):
    x = grid_of_tokens((5, 7))
    coefficients = HaarBands().analyse(x).permute(0, 1, 4, 2, 3)
    low, high = HaarBands(WMoEChoices(wavelet_return=back))(x)
    expected = F.interpolate(coefficients[1] + coefficients[2] + coefficients[3], size=(5, 7), mode=back)
    torch.testing.assert_close(high.permute(0, 3, 1, 2), expected)
    torch.testing.assert_close(low.permute(0, 3, 1, 2), F.interpolate(coefficients[0], size=(5, 7), mode=back))


def test_without_return_the_grid_is_halved():
    x = grid_of_tokens((5, 7))
    low, high = HaarBands(WMoEChoices(wavelet_return="none"))(x)
    coefficients = HaarBands().analyse(x)
    assert torch.equal(low, coefficients[0])
    torch.testing.assert_close(high, coefficients[1] + coefficients[2] + coefficients[3])


def test_the_stationary_transform_sums_to_the_tokens():
    x = grid_of_tokens((5, 6))
    bands = HaarBands(WMoEChoices(wavelet_kind="swt"))
    low, high = bands(x)
    plane = F.pad(x.permute(0, 3, 1, 2).flatten(0, 1)[:, None], (0, 1, 0, 1), mode="replicate")
    everywhere = F.conv2d(plane, bands.kernels[:, None] / 2).unflatten(0, (2, 3)).permute(2, 0, 3, 4, 1)
    torch.testing.assert_close(low, everywhere[0])
    torch.testing.assert_close(high, everywhere[1:].sum(0))
