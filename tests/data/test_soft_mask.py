import torch
from torchvision.transforms.v2 import functional as F

from anomalib_zsad.data.soft_mask import SoftMask


def test_edges_are_shares_of_a_pixel_after_resizing() -> None:
    mask = torch.zeros(30, 30, dtype=torch.uint8)
    mask[:, 15:] = 255
    soft = SoftMask.of(mask)
    assert set(soft.unique().tolist()) == {0.0, 1.0}
    for size in ([7, 7], [90, 90]):
        resized = F.resize(soft, size)
        assert isinstance(resized, SoftMask)
        assert resized.shape == tuple(size)
        assert resized.min() == 0
        assert resized.max() == 1
        assert ((resized > 0) & (resized < 1)).any()
        assert abs(resized.mean() - 0.5) < 0.01


def test_other_transforms_take_it_for_a_mask() -> None:
    soft = SoftMask.of(torch.eye(9))
    assert set(F.rotate(soft, 30).unique().tolist()) == {0.0, 1.0}
    assert torch.equal(F.horizontal_flip(soft), soft.flip(-1))
