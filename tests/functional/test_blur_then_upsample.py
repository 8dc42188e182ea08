import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d
from torch.nn import functional as F

from anomalib_zsad.functional.scoring import blur_then_upsample


@pytest.mark.parametrize(("blur_size", "blur_sigma"), [(7, 1.0), (9, 1.5)])
@pytest.mark.parametrize("size", [(84, 84), (70, 126)])
def test_the_matrices_are_kornias_blur_and_torchs_upsampling(blur_size, blur_sigma, size):
    maps = torch.randn(2, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    blurred = gaussian_blur2d(maps, (blur_size, blur_size), (blur_sigma, blur_sigma), border_type="reflect")
    expected = F.interpolate(blurred, size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(blur_then_upsample(maps, size, blur_size, blur_sigma), expected, atol=1e-5, rtol=0)


def test_without_a_blur_the_corners_stay():
    maps = torch.randn(1, 4, 5)
    result = blur_then_upsample(maps, (40, 31))
    torch.testing.assert_close(result[:, ::39, ::30], maps[:, ::3, ::4])


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3, 9]), st.floats(0.3, 3))
def test_a_level_map_stays_level_however_small_the_grid(height, width, blur_size, blur_sigma):
    result = blur_then_upsample(torch.full((1, height, width), 0.7), (12, 20), blur_size, blur_sigma)
    torch.testing.assert_close(result, torch.full((1, 12, 20), 0.7))
