import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from anomalib_zsad.functional.scoring import smooth_upsample


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    height=st.integers(10, 60),
    width=st.integers(10, 60),
    sigma=st.sampled_from([0.0, 1.0, 4.0]),
    corners=st.booleans(),
)
@settings(max_examples=30)
def test_it_is_bilinear_upsampling_then_scipys_gaussian(rows, columns, height, width, sigma, corners):
    maps = torch.rand(2, rows, columns)
    ours = smooth_upsample(maps, (height, width), sigma, corners)
    upsampled = F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=corners)[:, 0]
    for result, reference in zip(ours, upsampled, strict=True):
        expected = gaussian_filter(reference.double().numpy(), sigma) if sigma else reference.numpy()
        torch.testing.assert_close(result.double(), torch.from_numpy(expected).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_map_stays_constant(level):
    out = smooth_upsample(torch.full((1, 5, 7), level), (50, 70), 4.0)
    torch.testing.assert_close(out, torch.full((1, 50, 70), level))
