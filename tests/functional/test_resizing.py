import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from anomalib_zsad.functional.resizing import resize_bicubic, resize_bilinear

sides = st.integers(1, 300)
KERNELS = [(resize_bicubic, InterpolationMode.BICUBIC), (resize_bilinear, InterpolationMode.BILINEAR)]


@pytest.mark.parametrize(("ours", "mode"), KERNELS)
@settings(max_examples=60)
@given(sides, sides, sides, sides)
def test_equals_torchvision(ours, mode, height, width, to_height, to_width):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    # In torch 2.14 the kernel for contiguous images is wrong where the result is one pixel wide; this one is right.
    reference = images.contiguous(memory_format=torch.channels_last)
    expected = resize(reference, [to_height, to_width], interpolation=mode, antialias=True)
    torch.testing.assert_close(ours(images, (to_height, to_width)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("ours", "mode"), KERNELS)
def test_of_large_images_is_exact(ours, mode):
    images = torch.rand(1, 1, 9000, 7, generator=torch.Generator().manual_seed(0)).double()
    expected = resize(images, [518, 7], interpolation=mode, antialias=True)
    torch.testing.assert_close(ours(images, (518, 7)), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(ours(images.float(), (518, 7)).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("ours", "mode"), KERNELS)
def test_to_the_same_size_changes_nothing(ours, mode):
    images = torch.rand(1, 3, 37, 52, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(images, (37, 52)), images)
