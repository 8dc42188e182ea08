import pytest
import torch

from anomalib_zsad.models.af_clip.loss import AFClipLoss, _at_map_resolution


def gradient(variant, log_odds, mask):
    log_odds = log_odds.clone().requires_grad_()
    patches = torch.stack([torch.zeros_like(log_odds), log_odds], dim=-1)
    loss = AFClipLoss(lambda2=0.0, variant=variant)
    loss._map_focal(patches[..., 1] - patches[..., 0], mask).backward()
    return log_odds.grad


def test_the_released_gradient_is_that_of_an_overwritten_mask():
    """What autograd gives where the mask holds -1 in place of 0 by the time of the backward pass."""
    log_odds = torch.randn(2, 3, 4, dtype=torch.float64)
    mask = torch.zeros(2, 3, 4, dtype=torch.float64)
    mask[0, 0] = 1
    p = log_odds.sigmoid()
    late = torch.where(mask == 0, -1.0, mask)
    focus = (1 - (p * mask + (1 - p) * (1 - mask))) ** 4
    cross_entropy = torch.nn.functional.binary_cross_entropy(p, mask, reduction="none")
    of_cross_entropy = focus * (p - late) / (p * (1 - p))
    of_focus = -cross_entropy * 4 * focus ** (3 / 4) * (late - (1 - mask))
    expected = (of_cross_entropy + of_focus) * p * (1 - p) / mask.numel()
    torch.testing.assert_close(gradient("released", log_odds, mask), expected)


def test_both_variants_have_the_same_value_and_agree_on_anomalous_patches():
    log_odds, mask = torch.randn(2, 3, 4), torch.zeros(2, 3, 4)
    mask[1, :, :2] = 1
    assert AFClipLoss()._map_focal(log_odds, mask) == AFClipLoss(variant="paper")._map_focal(log_odds, mask)
    released, paper = gradient("released", log_odds, mask), gradient("paper", log_odds, mask)
    torch.testing.assert_close(released[mask > 0], paper[mask > 0])
    assert (released[mask == 0] > paper[mask == 0]).all()


def test_masks_are_reduced_to_the_map_and_any_value_above_zero_counts():
    mask = torch.zeros(1, 8, 8)
    mask[:, :4, :4] = 255
    target = _at_map_resolution(mask, torch.Size([2, 2]))
    assert target.tolist() == [[[1, 0], [0, 0]]]


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="variant must be one of released, paper, got 'exact'"):
        AFClipLoss(variant="exact")
