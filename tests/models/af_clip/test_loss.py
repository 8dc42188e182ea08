import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode, Resize

from anomalib_zsad.data.category_dataset import CategoryDataset
from anomalib_zsad.data.soft_mask import SoftMask
from anomalib_zsad.models.af_clip.adapter import PlainTokens
from anomalib_zsad.models.af_clip.loss import AFClipLoss, _alignment, patch_targets
from anomalib_zsad.models.af_clip.torch_model import Logits


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


def test_any_value_above_zero_counts_and_an_exact_half_stays():
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[:, :4, :4] = 255
    mask[:, :4, 6:] = 1
    assert patch_targets(mask, (2, 2)).tolist() == [[[1, 0.5], [0, 0]]]


def test_patches_of_half_a_defect_are_of_neither_kind_where_patches_are_aligned():
    target = torch.tensor([[0.0, 0.5, 1.0, 0.5]])
    tokens = F.normalize(torch.randn(3, 1, 5, 8), dim=-1)
    without_halves = tokens[:, :, [0, 1, 3]]
    alignment = [
        _alignment(Logits(tokens[0, :, 0], tokens[0], [PlainTokens(each)]), kinds)
        for each, kinds in ((tokens, target), (without_halves, target[:, [0, 2]]))
    ]
    assert alignment[0] == alignment[1]


def test_a_training_has_the_published_targets_of_a_mask_file(tmp_path):
    """The defect begins within the middle of patches: by the nearest pixels they are a tie, not so published."""
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 22:30] = 255
    for folder, name in (("images", "a"), ("masks", "a"), ("images", "b")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(mask if folder == "masks" else mask // 2).save(tmp_path / folder / f"{name}.png")
    samples = pd.DataFrame({"image_path": [str(tmp_path / "images" / f"{name}.png") for name in "ab"]})
    samples = samples.assign(mask_path=[str(tmp_path / "masks" / "a.png"), ""], label_index=[1, 0])
    data = CategoryDataset(samples.assign(split="test", category="things"))
    data.augmentations = Resize((56, 56), interpolation=InterpolationMode.BICUBIC, antialias=True)
    data.soft_masks = SoftMask
    batch = data.collate_fn([data[0], data[1]])

    published = torch.from_numpy(mask / 255)[None, None].float()
    published = F.interpolate(published, (56, 56), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    published = F.interpolate(published, (4, 4), mode="bilinear", align_corners=False)[0, 0]
    assert published[:, 1].min() > 0.5
    assert patch_targets(batch.soft_mask, (4, 4)).tolist() == [[[0, 1, 0, 0]] * 4, [[0] * 4] * 4]
    assert patch_targets(batch.gt_mask, (4, 4))[0].tolist() == [[0, 0.5, 0, 0]] * 4
    assert batch.gt_mask.dtype == torch.bool


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="variant must be one of released, paper, got 'exact'"):
        AFClipLoss(variant="exact")
