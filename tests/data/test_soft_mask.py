import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from anomalib_zsad.data.soft_mask import BilinearMask, SoftMask


@pytest.mark.parametrize("kind", [SoftMask, BilinearMask])
def test_edges_are_shares_of_a_pixel_after_resizing(kind: type[SoftMask]) -> None:
    mask = torch.zeros(30, 30, dtype=torch.uint8)
    mask[:, 15:] = 255
    soft = kind.of(mask)
    assert set(soft.unique().tolist()) == {0.0, 1.0}
    for size in ([7, 7], [90, 90]):
        resized = F.resize(soft, size)
        assert isinstance(resized, kind)
        assert resized.shape == tuple(size)
        assert resized.min() == 0
        assert resized.max() == 1
        assert ((resized > 0) & (resized < 1)).any()
        assert abs(resized.mean() - 0.5) < 0.01


def test_other_transforms_take_it_for_a_mask() -> None:
    soft = SoftMask.of(torch.eye(9))
    assert set(F.rotate(soft, 30).unique().tolist()) == {0.0, 1.0}
    assert torch.equal(F.horizontal_flip(soft), soft.flip(-1))


@pytest.mark.parametrize("size", [12, 70])
def test_a_bilinear_one_is_resized_as_pillow_does(size: int) -> None:
    mask = (torch.rand(40, 40, generator=torch.Generator().manual_seed(0)) > 0.8).to(torch.uint8)
    theirs = Image.fromarray(255 * mask.numpy()).resize((size, size), Image.Resampling.BILINEAR)
    ours = F.resize(BilinearMask.of(mask), [size, size]).as_subclass(torch.Tensor)
    np.testing.assert_allclose(ours, np.asarray(theirs) / 255, atol=1.01 / 255)  # whole grey values
